"""Every extension point of Cupola, on one page.

A plugin is a module or an object with functions named as below, marked with `cupola.hookimpl`, and registered through
the entry-point group `cupola`. All hooks are synchronous. The first six are called once, while the engine starts,
and return objects: whatever is asynchronous or frequent is a method of those objects. No hook is on the token path.
"""

from collections.abc import Iterable, Sequence

import pluggy

from cupola.contracts import (
    ApiFrontend,
    CacheStore,
    CatalogSource,
    CliCommand,
    Device,
    Event,
    ExecutionProvider,
    ModelConverter,
    ModelInfo,
    Placement,
)
from cupola.settings import Settings

hookspec = pluggy.HookspecMarker("cupola")
hookimpl = pluggy.HookimplMarker("cupola")


@hookspec
def catalog_sources(settings: Settings) -> Iterable[CatalogSource]:
    """Return catalog sources. Called once, when the engine or a listing starts."""
    raise NotImplementedError


@hookspec
def cache_stores(settings: Settings) -> Iterable[CacheStore]:
    """Return cache stores. Called once; models are looked for in all, and new ones go to the first."""
    raise NotImplementedError


@hookspec
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:
    """Return execution providers. Called once in the service, and once in every worker that uses the plugin."""
    raise NotImplementedError


@hookspec
def model_converters(settings: Settings) -> Iterable[ModelConverter]:
    """Return model converters. Called once; the first that can make something of a source is taken."""
    raise NotImplementedError


@hookspec
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:
    """Return front-ends. Called once, when the server starts; not at all by commands that serve nothing."""
    raise NotImplementedError


@hookspec
def cli_commands() -> Iterable[CliCommand]:
    """Return commands for `cupola`, click commands or groups. Called once, when the command line starts."""
    raise NotImplementedError


@hookspec(firstresult=True)
def place_model(model: str, variants: Sequence[ModelInfo], devices: Sequence[Device]) -> Placement | None:
    """Choose the variant and the device for a model about to be loaded, or return None to leave it to the next.

    Called once per load, in the service process. The last one asked is the built-in policy.
    """


@hookspec
def observe(event: Event) -> None:
    """Take note of an event: metrics, audit. Called on the event loop, so it must be quick; errors are logged."""
