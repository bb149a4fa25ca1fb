"""Discovers plugins, collects what each contributes, and isolates their failures from each other.

The hooks are pluggy's. Discovery is our own, because pluggy's `load_setuptools_entrypoints` lets one ImportError stop
everything and silently skips duplicate names.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import TypeVar

import msgspec
import pluggy
from msgspec import Struct

from cupola import hookspecs
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
from cupola.errors import CupolaError, PluginConflictError, PluginsFailedError, SettingsError
from cupola.settings import Settings

logger = logging.getLogger(__name__)
T = TypeVar("T")

GROUP = "cupola"
_KINDS = {
    "catalog_sources": "catalog source",
    "cache_stores": "cache store",
    "execution_providers": "execution provider",
    "model_converters": "model converter",
    "api_frontends": "front-end",
    "cli_commands": "command",
}


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """Why a plugin, or one of its hooks, is not used. `stage` is "import", "register" or the name of the hook."""

    plugin: str
    distribution: str
    stage: str
    error: str


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """A loaded plugin. `contributes` maps a kind, such as "execution provider", to the names of that kind."""

    name: str
    distribution: str
    reference: str
    contributes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """An execution provider and where it comes from.

    Attributes:
        provider: The provider object.
        reference: Import reference of its plugin, which workers load, `module` or `module:attribute`.
        options: Its validated options.
        distribution: The installed distribution of the plugin; None for plugins passed in by code.
    """

    provider: ExecutionProvider
    reference: str
    options: Struct
    distribution: Distribution | None = None


@dataclass(slots=True)
class _Plugin:
    name: str
    distribution: str
    reference: str
    plugin: object
    dist: Distribution | None = None
    contributes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def load_plugins(settings: Settings, extra: Sequence[EntryPoint] = ()) -> "PluginSet":
    """Discover, import and register all plugins, and collect what each contributes.

    Args:
        settings: Passed to the hooks; `plugins.disabled` names entry points to skip.
        extra: Entry points besides the installed ones, for tests and embedding programs.

    Returns:
        The plugin set. A plugin that fails is listed in its `failures` and does not affect the others.
    """
    return PluginSet(settings, [*entry_points(group=GROUP), *extra])


def plugin_manager() -> pluggy.PluginManager:
    """Create a plugin manager with our hook specifications and no plugins."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


class PluginSet:
    """The plugins in use. Built once at start and read-only afterwards.

    Attributes:
        failures: All failures, in order of discovery.
        conflicts: Duplicate names and invalid provider options; `ensure_usable` raises the first.
        catalog_sources, cache_stores, converters, providers, commands: The plugins' contributions, in order of
            discovery.
    """

    def __init__(self, settings: Settings, found: Iterable[EntryPoint]) -> None:
        self._settings = settings
        self._manager = plugin_manager()
        self._owners: dict[tuple[str, str], str] = {}
        self._plugins: list[_Plugin] = []
        self.failures: list[PluginFailure] = []
        self.conflicts: list[CupolaError] = []
        for entry in found:
            if entry.name not in settings.plugins.disabled:
                self._load(entry)
        self.catalog_sources = tuple(
            item for _, item in self._collect("catalog_sources", CatalogSource, settings=settings)
        )
        self.cache_stores = tuple(item for _, item in self._collect("cache_stores", CacheStore, settings=settings))
        self.converters = tuple(
            item for _, item in self._collect("model_converters", ModelConverter, settings=settings)
        )
        self.commands = tuple(item for _, item in self._collect("cli_commands", CliCommand))
        self.providers = tuple(self._configured_providers())

    @property
    def records(self) -> tuple[PluginRecord, ...]:
        """The loaded plugins."""
        return tuple(PluginRecord(p.name, p.distribution, p.reference, dict(p.contributes)) for p in self._plugins)

    def frontends(self) -> tuple[ApiFrontend, ...]:
        """Create the plugins' front-ends. Call it once, when a server starts."""
        return self._all("api_frontends", ApiFrontend, settings=self._settings)

    def ensure_usable(self, *, strict: bool = False) -> None:
        """Check that there are no conflicts and, in strict mode, no failures.

        Raises:
            PluginConflictError: Two plugins contribute the same name.
            SettingsError: A provider's options are invalid.
            PluginsFailedError: A plugin failed, and `strict` is set here or in the settings.
        """
        if self.conflicts:
            raise self.conflicts[0]
        if self.failures and (strict or self._settings.plugins.strict):
            raise PluginsFailedError(failures="; ".join(f"{f.plugin} ({f.stage}): {f.error}" for f in self.failures))

    def place(self, model: str, variants: Sequence[ModelInfo], devices: Sequence[Device]) -> Placement | None:
        """Call the `place_model` hooks until one returns a placement; None if none does."""
        for plugin, call in self._implementations("place_model"):
            try:
                answer = call(model=model, variants=variants, devices=devices)
            except Exception:
                logger.exception("The plugin %s failed in place_model; trying the next one", plugin)
                continue
            if isinstance(answer, Placement):
                return answer
            if answer is not None:
                logger.error("The plugin %s returned a %s from place_model; trying the next one", plugin, type(answer))
        return None

    def observe(self, event: Event) -> None:
        """Call the `observe` hooks; one that fails is logged."""
        for plugin, call in self._implementations("observe"):
            try:
                call(event=event)
            except Exception:
                logger.exception("The plugin %s failed in observe", plugin)

    def _load(self, entry: EntryPoint) -> None:
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        if not self._register_name("plugin", entry.name, distribution):
            return
        stage = "import"
        try:
            plugin = entry.load()
            stage = "register"
            self._manager.register(plugin, name=entry.name)
            self._manager.check_pending()
        except Exception as error:  # noqa: BLE001 - plugin isolation
            if self._manager.has_plugin(entry.name):
                self._manager.unregister(name=entry.name)
            self._fail(entry.name, distribution, stage, error)
        else:
            self._plugins.append(_Plugin(entry.name, distribution, entry.value, plugin, entry.dist))

    def _fail(self, plugin: str, distribution: str, stage: str, error: Exception) -> None:
        failure = PluginFailure(plugin, distribution, stage, f"{type(error).__name__}: {error}")
        self.failures.append(failure)
        logger.warning("The plugin %s (%s) failed at %s: %s", plugin, distribution, stage, failure.error)

    def _register_name(self, kind: str, name: str, owner: str) -> bool:
        """Register a name for its first owner. A second owner is recorded as a conflict that names both."""
        if (first := self._owners.setdefault((kind, name.lower()), owner)) is owner:
            return True
        self.conflicts.append(PluginConflictError(kind=kind, name=name, first=first, second=owner))
        return False

    def _collect(self, hook: str, wanted: type[T], **arguments: object) -> list[tuple["_Plugin", T]]:
        """Call one hook of every plugin separately. An exception or an invalid result is a failure of that plugin."""
        collected = []
        for plugin in self._plugins:
            try:
                items = _items(self._only(plugin, hook)(**arguments), hook, wanted)
            except Exception as error:  # noqa: BLE001 - plugin isolation
                self._fail(plugin.name, plugin.distribution, hook, error)
                continue
            kind, owner = _KINDS[hook], f"{plugin.name} ({plugin.distribution})"
            kept = [item for item in items if self._register_name(kind, _name(item), owner)]
            if kept:
                plugin.contributes[kind] = tuple(_name(item) for item in kept)
            collected += [(plugin, item) for item in kept]
        return collected

    def _all(self, hook: str, wanted: type[T], **arguments: object) -> tuple[T, ...]:
        return tuple(item for _, item in self._collect(hook, wanted, **arguments))

    def _configured_providers(self) -> Iterator[ProviderEntry]:
        """Collect the providers whose options are valid; record the other options as conflicts."""
        tables = dict(self._settings.providers)
        found = self._collect("execution_providers", ExecutionProvider, settings=self._settings)
        for plugin, provider in found:
            try:
                options = provider_options(provider, self._settings)
            except SettingsError as error:
                self.conflicts.append(error)
            else:
                yield ProviderEntry(provider, plugin.reference, options, plugin.dist)
            tables.pop(provider.alias, None)
        for alias in tables:
            known = ", ".join(provider.alias for _, provider in found)
            problem = f"unknown provider; available: {known}"
            self.conflicts.append(SettingsError(key=f"providers.{alias}", source="the settings", problem=problem))

    def _only(self, plugin: "_Plugin", hook: str) -> Callable[..., list[object]]:
        others = [other.plugin for other in self._plugins if other is not plugin]
        return self._manager.subset_hook_caller(hook, others)

    def _implementations(self, hook: str) -> Iterator[tuple[str, Callable[..., object]]]:
        """Iterate over the plugins that implement a hook, in pluggy's order, with a function that calls each one."""
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            names = implementation.argnames

            def call(
                function: Callable[..., object] = implementation.function, names: Iterable[str] = names, **given: object
            ) -> object:
                return function(**{name: given[name] for name in names})

            yield implementation.plugin_name, call


def provider_options(provider: ExecutionProvider, settings: Settings) -> Struct:
    """Decode `[providers.<alias>]` to the provider's options type.

    Raises:
        SettingsError: An option is unknown or invalid.
    """
    try:
        return msgspec.convert(settings.providers.get(provider.alias, {}), provider.options_type)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        key = f"providers.{provider.alias}{where.rstrip('`')}"
        raise SettingsError(key=key, source="the settings", problem=problem[0].lower() + problem[1:]) from None


def _items(answers: list[object], hook: str, wanted: type[T]) -> list[T]:
    """Flatten and check the results of a hook.

    Raises:
        TypeError: The hook is a coroutine function, or did not return an iterable of the expected type.
    """
    items: list[T] = []
    for answer in answers:
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError(f"{hook} is a coroutine function; hooks are synchronous and return objects")
        if not isinstance(answer, Iterable):
            raise TypeError(f"{hook} returned {type(answer).__name__}, expected an iterable of {wanted.__name__}")
        for item in answer:
            if wanted is not CliCommand and not isinstance(item, wanted):
                raise TypeError(f"{hook} returned a {type(item).__name__}, expected {wanted.__name__}")
            items.append(item)
    return items


def _name(item: object) -> str:
    return str(getattr(item, "name", ""))
