"""Models of one's own: any folder with a genai_config.json, and GGUF files.

They become models of the cache like any other, with id, alias, size and manifest; `cupola model add` shares the files
of a folder with the cache where the file system can, `cupola model import` copies or converts.
"""

from collections.abc import Iterable

from cupola.catalog import CatalogSource, Settings, hookimpl
from cupola_plugins.local.source import LocalModels

__all__ = ["LocalModels", "catalog_sources"]


@hookimpl
def catalog_sources(settings: Settings) -> Iterable[CatalogSource]:  # noqa: ARG001 - nothing of it can be set
    """Contribute the source, which lists nothing: what it took in is listed by the cache."""
    return [LocalModels()]
