"""Having a model's files here: whoever asks for the same ones waits for the same download."""

from collections.abc import Awaitable, Callable

import anyio

from cupola.catalog import Entry
from cupola.contracts import (
    CachedModel,
    CacheStore,
    CatalogSource,
    DownloadEnded,
    DownloadStatus,
    Event,
    ModelInfo,
    Progress,
)
from cupola.downloads.bring import bring
from cupola.downloads.http import HttpDownloader
from cupola.downloads.jobs import DownloadJobs
from cupola.errors import DownloadError


class Bringing:
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

    async def bring(self, entry: Entry, progress: Progress, *, again: bool = False) -> CachedModel:
        """Have a model's files here; one download at a time per model, which others join.

        Args:
            entry: Which model.
            progress: Told how far it is.
            again: Bring it also if it is here; it stays until the new one takes its place.
        """
        if entry.cached and not again:
            return entry.cached
        return await self.jobs.join(entry.info, self._work(entry, again=again), progress)

    async def start(self, entry: Entry) -> DownloadStatus:
        """Begin to bring a model's files here; that goes on whether anybody waits or not."""
        return await self.jobs.start(entry.info, self._work(entry))

    def _work(self, entry: Entry, *, again: bool = False) -> Callable[[Progress], Awaitable[CachedModel]]:
        source = entry.source
        if source is None:
            raise DownloadError(model=entry.info.id, detail="no catalog source offers it")

        async def work(progress: Progress) -> CachedModel:
            cached = None if again else await self._store().find(entry.info.id)
            return cached or await self._download(entry.info, source, progress, again=again)

        return work

    async def _download(
        self, info: ModelInfo, source: CatalogSource, progress: Progress, *, again: bool
    ) -> CachedModel:
        started, ok = anyio.current_time(), False
        try:
            model = await bring(info, source, self._store(), self._downloader, progress, again=again)
            ok = True
        finally:
            self._observe(DownloadEnded(info.id, info.size_bytes, anyio.current_time() - started, ok))
        return model
