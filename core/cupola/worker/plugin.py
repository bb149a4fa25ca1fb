"""Finds an execution provider inside a worker process."""

import importlib

from cupola.contracts import ExecutionProvider
from cupola.plugins import plugin_manager
from cupola.settings import Settings


def import_provider(reference: str, name: str, settings: Settings) -> ExecutionProvider | None:
    """Import a plugin and return the provider of that name that it brings; None if it brings none.

    Args:
        reference: The plugin, "module" or "module:attribute".
        name: "OpenVINOExecutionProvider".
        settings: Handed to the plugin's hook.
    """
    module, _, attribute = reference.partition(":")
    plugin = importlib.import_module(module)
    manager = plugin_manager()
    manager.register(getattr(plugin, attribute) if attribute else plugin)
    for providers in manager.hook.execution_providers(settings=settings):
        for provider in providers:
            if isinstance(provider, ExecutionProvider) and provider.name == name:
                return provider
    return None
