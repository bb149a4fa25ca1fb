"""From a catalog source into a cache store: once, whole, whoever else wants the same model."""

import logging

import anyio

from cupola.contracts import CachedModel, CacheStore, CatalogSource, Downloader, ModelInfo, Progress, Staging
from cupola.errors import CupolaError, DownloadError, ModelFormatError

logger = logging.getLogger(__name__)
_CLEAN_UP_S = 10.0


async def bring(
    model: ModelInfo,
    source: CatalogSource,
    store: CacheStore,
    downloader: Downloader,
    progress: Progress,
    *,
    again: bool = False,
) -> CachedModel:
    """Return the model from the store, after downloading it if it is not there, or in any case if `again`.

    Of several tasks or processes that ask at once, one downloads and the others wait for it. When this raises or is
    cancelled, what had arrived waits in the staging folder for the next try, and a model that was there is there still.

    Raises:
        DownloadError: The files did not arrive, or the source has a fault of its own; `DigestMismatchError` if one
            arrived wrong.
        CacheError: The store cannot be used; `DiskFullError` if it is full.
        ModelFormatError: What arrived cannot be used; it was removed.
    """
    if not again and (cached := await store.find(model.id)):
        return cached
    staging = await store.reserve(model)
    try:
        # Whoever held the staging folder until now may have finished the job.
        cached = None if again else await store.find(model.id)
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
