"""Gets the files of a model into the cache. Concurrent requests for the same model share one download."""

import logging
from collections.abc import Callable

import anyio

from cupola.contracts import (
    CachedModel,
    CacheStore,
    CatalogSource,
    DownloadEnded,
    Downloader,
    DownloadStatus,
    Event,
    ModelInfo,
    Progress,
    Staging,
)
from cupola.downloads.http import HttpDownloader
from cupola.downloads.jobs import DownloadFunction, DownloadJobs
from cupola.errors import CupolaError, DownloadError, ModelFormatError
from cupola.model_index import ModelEntry

logger = logging.getLogger(__name__)
_CLEAN_UP_TIMEOUT_S = 10.0


class Acquirer:
    """Downloads models of catalogs into a cache store.

    Args:
        jobs: The running downloads.
        downloader: The downloader for catalog sources.
        store: Returns the store for new models.
        observe: Called with a `DownloadEnded` event after every download, whether it succeeded or not.
    """

    def __init__(
        self,
        jobs: DownloadJobs,
        downloader: HttpDownloader,
        store: Callable[[], CacheStore],
        observe: Callable[[Event], None],
    ) -> None:
        self.jobs = jobs
        self._downloader = downloader
        self._store = store
        self._observe = observe

    async def acquire(self, entry: ModelEntry, progress: Progress, *, force: bool = False) -> CachedModel:
        """Return the cached model, downloading it first if necessary. Joins a running download of the same model.

        Args:
            entry: The model.
            progress: Called with the progress of the download.
            force: Download the model even if it is cached. The cached copy remains until the new one replaces it.

        Raises:
            DownloadError, CacheError, ModelFormatError: See `acquire` of this module. A download that another task
                cancels raises `DownloadError`.
        """
        if entry.cached and not force:
            return entry.cached
        return await self.jobs.join(entry.info, self._download_function(entry, force=force), progress)

    async def start(self, entry: ModelEntry) -> DownloadStatus:
        """Start a download in the background; it continues even if no task waits for it.

        Raises:
            DownloadError: No catalog source offers the model.
        """
        return await self.jobs.start(entry.info, self._download_function(entry))

    def _download_function(self, entry: ModelEntry, *, force: bool = False) -> DownloadFunction:
        source = entry.source
        if source is None:
            raise DownloadError(model=entry.info.id, detail="no catalog source offers it")

        async def download(progress: Progress) -> CachedModel:
            cached = None if force else await self._store().find(entry.info.id)
            return cached or await self._download(entry.info, source, progress, force=force)

        return download

    async def _download(
        self, info: ModelInfo, source: CatalogSource, progress: Progress, *, force: bool
    ) -> CachedModel:
        started, ok = anyio.current_time(), False
        try:
            model = await acquire(info, source, self._store(), self._downloader, progress, force=force)
            ok = True
        finally:
            self._observe(DownloadEnded(info.id, info.size_bytes, anyio.current_time() - started, ok))
        return model


async def acquire(
    model: ModelInfo,
    source: CatalogSource,
    store: CacheStore,
    downloader: Downloader,
    progress: Progress,
    *,
    force: bool = False,
) -> CachedModel:
    """Return the cached model, downloading it first if it is not in the store or if `force` is true.

    If several tasks or processes call this at the same time, one downloads and the others wait. If this raises or is
    cancelled, the staging folder keeps the received data for the next attempt, and a model that was already cached
    remains.

    Raises:
        DownloadError: The files could not be downloaded, or the source raised an unexpected error;
            `DigestMismatchError` if a file has the wrong size or digest.
        CacheError: The store cannot be used; `DiskFullError` if the disk is full.
        ModelFormatError: The downloaded files are not a usable model. They are deleted.
    """
    if not force and (cached := await store.find(model.id)):
        return cached
    staging = await store.reserve(model)
    try:
        # The previous holder of the staging folder may have completed the download.
        cached = None if force else await store.find(model.id)
        return cached or await _download(model, source, staging, downloader, progress)
    finally:
        with anyio.move_on_after(_CLEAN_UP_TIMEOUT_S, shield=True):
            await staging.release()


async def _download(
    model: ModelInfo, source: CatalogSource, staging: Staging, downloader: Downloader, progress: Progress
) -> CachedModel:
    try:
        await _fetch(model, source, staging, downloader, progress)
        return await staging.commit()
    except ModelFormatError:
        with anyio.move_on_after(_CLEAN_UP_TIMEOUT_S, shield=True):
            await staging.discard()
        raise


async def _fetch(
    model: ModelInfo, source: CatalogSource, staging: Staging, downloader: Downloader, progress: Progress
) -> None:
    """Call the source's `fetch`, and turn its unexpected exceptions into a `DownloadError` that names the source."""
    try:
        await source.fetch(model, staging, downloader, progress)
    except CupolaError:
        raise
    except Exception as error:
        logger.exception("The catalog source %r failed to fetch %r", source.name, model.id)
        detail = f"the catalog source {source.name!r} has a fault: {type(error).__name__}: {error}"
        raise DownloadError(model=model.id, detail=detail) from error
