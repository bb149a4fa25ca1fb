"""Imports models from this machine: folders with a genai_config.json, and GGUF files.

They become ordinary models of the cache, with an id, alias, size and manifest. `cupola model add` hard-links the files
of a folder where the file system supports it; `cupola model import` copies or converts them.
"""

from collections.abc import Iterable

from cupola.catalog import CatalogSource, Settings, hookimpl
from cupola_plugins.local.source import LocalModels

__all__ = ["LocalModels", "catalog_sources"]


@hookimpl
def catalog_sources(settings: Settings) -> Iterable[CatalogSource]:  # noqa: ARG001 - the source has no settings
    """Contribute the source."""
    return [LocalModels()]
