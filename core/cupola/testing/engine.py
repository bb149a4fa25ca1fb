"""Opens an engine with only the plugins under test and a temporary cache."""

import os
import sys
import venv
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from cupola.contracts import CatalogSource, ModelInfo, ProviderReport
from cupola.engine import Engine, open_engine
from cupola.environments.environment import EnvironmentRecord, Environments
from cupola.hookspecs import hookimpl
from cupola.plugins import GROUP, PluginSet, ProviderEntry
from cupola.settings import Settings
from cupola.testing.fakes import Shelf

_CACHE = EntryPoint("filesystem", "cupola_plugins.filesystem", GROUP)


@asynccontextmanager
async def engine_with(
    *plugins: str | ModuleType,
    folder: Path,
    model: Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[Engine]:
    """Open an engine with plugins, a cache in a folder, and a model for each of their execution providers.

    The models have the alias "example", or "example-ALIAS" for the provider with that alias. A provider with its own
    environment gets one that shares this interpreter's packages, so that nothing is installed.

    Args:
        plugins: Plugin modules, or references "module" or "module:attribute".
        folder: An empty folder, such as pytest's `tmp_path`.
        model: The folder of a model for the providers; by default it has only a genai_config.json.
        settings: Further sections of the settings.
    """
    references = [each if isinstance(each, str) else each.__name__ for each in plugins]
    found = [EntryPoint(each.replace(":", "."), each, GROUP) for each in references]
    sections = {"cache": {"dir": str(folder / "cache")}, "machine": {"dir": str(folder / "machine")}}
    chosen = msgspec.convert({**sections, **(settings or {})}, Settings)
    providers = PluginSet(chosen, found).providers
    for entry in providers:
        if entry.provider.requirements:
            adopt_environment(entry, chosen)
    examples = _Examples(_models(providers), model)
    plugin_set = PluginSet(chosen, [*found, _CACHE, examples])  # type: ignore[list-item] # a structural entry point
    with paths_for_workers():
        async with open_engine(chosen, plugin_set) as engine:
            yield engine


@contextmanager
def paths_for_workers() -> Iterator[None]:
    """Make this interpreter's packages importable in processes that the block starts."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def adopt_environment(entry: ProviderEntry, settings: Settings) -> None:
    """Create an environment for a provider that shares this interpreter's packages."""
    environments = Environments(settings.environments_dir)
    with environments.build_folder() as folder:
        built = folder / "venv"
        venv.create(built, symlinks=os.name != "nt")
        (packages,) = built.rglob("site-packages")
        (packages / "shared.pth").write_text("\n".join(path for path in sys.path if path), "utf-8")
        record = EnvironmentRecord(entry.provider.name, entry.provider.requirements, 0.0, ProviderReport(""))
        environments.commit(entry.provider.alias, built, record)


class _Examples:
    """A plugin that is its own entry point, because no module contains it."""

    name, value, dist = "examples", "examples", None

    def __init__(self, models: Sequence[ModelInfo], folder: Path | None) -> None:
        self._shelf = Shelf(models, folder)

    def load(self) -> "_Examples":
        return self

    @hookimpl
    def catalog_sources(self, settings: Settings) -> Sequence[CatalogSource]:  # noqa: ARG002
        return [self._shelf]


def _models(providers: Sequence[ProviderEntry]) -> list[ModelInfo]:
    return [
        ModelInfo(
            id=f"example-{entry.provider.alias}:1",
            alias="example",
            source=Shelf.name,
            publisher="Examples",
            provider=entry.provider.name,
            device=kind,
        )
        for entry in providers
        for kind in entry.provider.device_types[:1]
    ]
