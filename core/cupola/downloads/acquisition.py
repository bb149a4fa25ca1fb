"""Having a model's files here: whoever asks for the same ones waits for the same download."""

import logging
from collections.abc import Awaitable, Callable

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
from cupola.downloads.jobs import DownloadJobs
from cupola.errors import CupolaError, DownloadError, ModelFormatError
from cupola.model_index import ModelEntry


class Acquirer:
    """Brings models of catalogs into a cache store.

    Args:
        jobs: The downloads under way.
        downloader: What sources are handed.
        store: Returns the store that new models go to.
        observe: Told of every download that ended.
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
        """Have a model's files here; one download at a time per model, which others join.

        Args:
            entry: Which model.
            progress: Told how far it is.
            force: Download it even if it is cached; the cached copy stays until the new one replaces it.
        """
        if entry.cached and not force:
            return entry.cached
        return await self.jobs.join(entry.info, self._work(entry, force=force), progress)

    async def start(self, entry: ModelEntry) -> DownloadStatus:
        """Begin to bring a model's files here; that goes on whether anybody waits or not."""
        return await self.jobs.start(entry.info, self._work(entry))

    def _work(self, entry: ModelEntry, *, force: bool = False) -> Callable[[Progress], Awaitable[CachedModel]]:
        source = entry.source
        if source is None:
            raise DownloadError(model=entry.info.id, detail="no catalog source offers it")

        async def work(progress: Progress) -> CachedModel:
            cached = None if force else await self._store().find(entry.info.id)
            return cached or await self._download(entry.info, source, progress, force=force)

        return work

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


logger = logging.getLogger(__name__)
_CLEAN_UP_S = 10.0


async def acquire(
    model: ModelInfo,
    source: CatalogSource,
    store: CacheStore,
    downloader: Downloader,
    progress: Progress,
    *,
    force: bool = False,
) -> CachedModel:
    """Return the model from the store, after downloading it if it is not there, or in any case if `force`.

    Of several tasks or processes that ask at once, one downloads and the others wait for it. When this raises or is
    cancelled, what had arrived waits in the staging folder for the next try, and a model that was there is there still.

    Raises:
        DownloadError: The files did not arrive, or the source has a fault of its own; `DigestMismatchError` if one
            arrived wrong.
        CacheError: The store cannot be used; `DiskFullError` if it is full.
        ModelFormatError: What arrived cannot be used; it was removed.
    """
    if not force and (cached := await store.find(model.id)):
        return cached
    staging = await store.reserve(model)
    try:
        # Whoever held the staging folder until now may have finished the job.
        cached = None if force else await store.find(model.id)
        return cached or await _download(model, source, staging, downloader, progress)
    finally:
        with anyio.move_on_after(_CLEAN_UP_S, shield=True):
            await staging.release()


async def _download(
    model: ModelInfo, source: CatalogSource, staging: Staging, downloader: Downloader, progress: Progress
) -> CachedModel:
    try:
        await _fetch(model, source, staging, downloader, progress)
        return await staging.commit()
    except ModelFormatError:
        with anyio.move_on_after(_CLEAN_UP_S, shield=True):
            await staging.discard()
        raise


async def _fetch(
    model: ModelInfo, source: CatalogSource, staging: Staging, downloader: Downloader, progress: Progress
) -> None:
    """Let the source fetch; a fault of the source's own becomes a `DownloadError` that names it."""
    try:
        await source.fetch(model, staging, downloader, progress)
    except CupolaError:
        raise
    except Exception as error:
        logger.exception("The catalog source %r failed while it fetched %r", source.name, model.id)
        detail = f"the catalog source {source.name!r} has a fault: {type(error).__name__}: {error}"
        raise DownloadError(model=model.id, detail=detail) from error
