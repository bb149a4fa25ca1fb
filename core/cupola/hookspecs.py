"""All hooks of Cupola.

A plugin is a module or object that implements some of these functions, marks them with `cupola.hookimpl`, and is
registered under the entry-point group `cupola`. All hooks are synchronous. The first six are called once at start and
return objects; whatever is asynchronous or frequent is a method of those objects. No hook is called per token.
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
    """Return catalog sources. Called once, when the engine or a listing command starts."""
    raise NotImplementedError


@hookspec
def cache_stores(settings: Settings) -> Iterable[CacheStore]:
    """Return cache stores. Called once. Models are looked up in all stores; downloads go to the first."""
    raise NotImplementedError


@hookspec
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:
    """Return execution providers. Called once in the service and once in each worker that uses the plugin."""
    raise NotImplementedError


@hookspec
def model_converters(settings: Settings) -> Iterable[ModelConverter]:
    """Return model converters. Called once. The first converter that supports a source is used."""
    raise NotImplementedError


@hookspec
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:
    """Return front-ends. Called once, when the server starts; commands without a server do not call it."""
    raise NotImplementedError


@hookspec
def cli_commands() -> Iterable[CliCommand]:
    """Return click commands or groups to add to `cupola`. Called once, when the command line starts."""
    raise NotImplementedError


@hookspec(firstresult=True)
def place_model(model: str, variants: Sequence[ModelInfo], devices: Sequence[Device]) -> Placement | None:
    """Choose the variant and the device for a model to load, or return None to leave the choice to the next plugin.

    Called once per load, in the service process. The built-in policy applies when every plugin returns None.
    """


@hookspec
def observe(event: Event) -> None:
    """Handle an event, for metrics or audit logs. Called on the event loop, so it must be fast; errors are logged."""
