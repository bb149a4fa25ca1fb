"""The catalog source for Azure AI Foundry, private catalogs and mirrors, with both protocols of Foundry Local.

It makes no request unless `azure.enabled` is set or a private catalog is configured.
"""

from collections.abc import Iterable

from cupola.catalog import CatalogSource, Settings, hookimpl
from cupola.errors import SettingsError
from cupola_plugins.azure.source import AzureFoundryCatalog

__all__ = ["AzureFoundryCatalog", "catalog_sources"]

# The name that Foundry Local uses in a shared cache folder.
_SNAPSHOT = "foundry.modelinfo.json"


@hookimpl
def catalog_sources(settings: Settings) -> Iterable[CatalogSource]:
    """Contribute the private catalogs, then Azure's if it is enabled."""
    sources = []
    for name, catalog in settings.azure.private.items():
        if not (catalog.catalog_url and catalog.registry_url):
            problem = "a private catalog needs its own catalog_url and registry_url"
            raise SettingsError(key=f"azure.private.{name}", source="the settings", problem=problem)
        snapshot = settings.cache_dir / f"cupola.{name}.modelinfo.json"
        sources.append(AzureFoundryCatalog(catalog, snapshot, name=name))
    if settings.azure.enabled:
        sources.append(AzureFoundryCatalog(settings.azure, settings.cache_dir / _SNAPSHOT))
    return sources
