"""The built-in cache store: models as plain folders, in Foundry Local's layout.

Complete models are in `<cache>/<publisher>/<name>-<version>/`, incomplete ones in `<cache>/.staging/`.
"""

from collections.abc import Iterable

from cupola.cache import CacheStore, Settings, hookimpl
from cupola_plugins.filesystem.store import FilesystemCache

__all__ = ["FilesystemCache", "cache_stores"]


@hookimpl
def cache_stores(settings: Settings) -> Iterable[CacheStore]:
    """Contribute the cache at `settings.cache_dir`."""
    return [FilesystemCache(settings.cache_dir)]
