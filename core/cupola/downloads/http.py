"""Files over HTTP: in parallel, resumed, checked, and put in place only when whole."""

from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from cupola.contracts import ModelInfo, Progress, ProgressEvent, RemoteFile
from cupola.contracts.catalog import Refresh
from cupola.downloads.targets import targets
from cupola.downloads.transfer import Transfer
from cupola.settings import DownloadSettings

_TICK_S = 0.1
_WAITING_TRANSFERS = 64


class HttpDownloader:
    """The `Downloader` that catalog sources are handed.

    A file that has not arrived whole waits as `<name>.part` with a sidecar that tells which chunks of it are there. The
    next try asks for the others if it can be sure to get the same version of the file: it has a digest, or the server
    named the version (ETag, Last-Modified).
    """

    def __init__(self, settings: DownloadSettings | None = None) -> None:
        self._settings = settings or DownloadSettings()
        self._limiter = CapacityLimiter(_WAITING_TRANSFERS)

    async def fetch(
        self,
        files: Sequence[RemoteFile],
        model: ModelInfo,
        folder: Path,
        progress: Progress,
        *,
        refresh: Refresh | None = None,
    ) -> None:
        """Bring every file into the folder, whole and checked; see `Downloader`. Cancellation keeps what arrived."""
        pairs = targets(files, model.id, folder)
        shown = _Shown(progress, sum(file.size_bytes for file in files))
        shown.update(0)
        transfer = Transfer(pairs, model.id, folder, self._settings)
        transfer.start()
        try:
            while not await to_thread.run_sync(transfer.wait, _TICK_S, abandon_on_cancel=True, limiter=self._limiter):
                shown.update(transfer.done_bytes)
                if transfer.wants_addresses:
                    transfer.renew(await refresh() if refresh else ())
        finally:
            transfer.stop()
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(transfer.wait_for_end)
        transfer.raise_failure()
        shown.update(transfer.done_bytes)


class _Shown:
    """Tells progress when there is any."""

    def __init__(self, progress: Progress, total_bytes: int) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self._done_bytes = -1

    def update(self, done_bytes: int) -> None:
        if done_bytes != self._done_bytes:
            self._done_bytes = done_bytes
            self._progress(ProgressEvent("download", done_bytes, self._total_bytes))
