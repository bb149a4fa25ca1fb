"""Downloads files over HTTP: in parallel, resumable, verified, and moved into place only when they are complete.

`HttpDownloader` runs on the event loop. It starts a `Transfer`, whose threads do the work, and stops it when cancelled.
"""

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from cupola.contracts import ModelInfo, Progress, ProgressEvent, RemoteFile
from cupola.contracts.catalog import Refresh
from cupola.downloads.connections import ConnectionPool
from cupola.downloads.fetcher import Fetcher, Throttle, mismatch_error
from cupola.downloads.files import FileDigest, announced_digest, target_paths, verify_or_delete
from cupola.downloads.partial_file import PartialFile, StaleChunkError, partial_size_bytes
from cupola.errors import CacheError, DigestMismatchError, DiskFullError
from cupola.settings import DownloadSettings

_PROGRESS_INTERVAL_S = 0.1
_MAX_TRANSFERS = 64
_JOIN_TIMEOUT_S = 2.0
_POLL_S = 0.5


class HttpDownloader:
    """The `Downloader` for catalog sources.

    An incomplete file is stored as `<name>.part`, with a sidecar that records its complete chunks. The next attempt
    requests only the missing chunks if they are certain to belong to the same version of the file: the catalog
    announced a digest, or the server sent an ETag or a Last-Modified.
    """

    def __init__(self, settings: DownloadSettings | None = None) -> None:
        self._settings = settings or DownloadSettings()
        self._limiter = CapacityLimiter(_MAX_TRANSFERS)

    async def fetch(
        self,
        files: Sequence[RemoteFile],
        model: ModelInfo,
        folder: Path,
        progress: Progress,
        *,
        refresh: Refresh | None = None,
    ) -> None:
        """Download all files into the folder and verify them; see `Downloader`. Cancellation keeps received data."""
        pairs = target_paths(files, model.id, folder)
        reporter = _ProgressReporter(progress, sum(file.size_bytes for file in files))
        reporter.update(0)
        transfer = Transfer(pairs, model.id, folder, self._settings)
        transfer.start()
        try:
            while not await to_thread.run_sync(
                transfer.wait, _PROGRESS_INTERVAL_S, abandon_on_cancel=True, limiter=self._limiter
            ):
                reporter.update(transfer.done_bytes)
                if transfer.needs_refresh:
                    transfer.refresh_urls(await refresh() if refresh else ())
        finally:
            transfer.stop()
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(transfer.join)
        transfer.raise_error()
        reporter.update(transfer.done_bytes)


class _ProgressReporter:
    """Reports the number of downloaded bytes when it has changed."""

    def __init__(self, progress: Progress, total_bytes: int) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self._done_bytes = -1

    def update(self, done_bytes: int) -> None:
        if done_bytes != self._done_bytes:
            self._done_bytes = done_bytes
            self._progress(ProgressEvent("download", done_bytes, self._total_bytes))


class Transfer:
    """The download of all files of a model, in threads: one verifies files while several fetch chunks.

    Args:
        pairs: Every file with its target path.
        model_id: For error messages.
        folder: The folder of the targets.
        settings: Limits and timeouts.
    """

    def __init__(
        self, pairs: Sequence[tuple[RemoteFile, Path]], model_id: str, folder: Path, settings: DownloadSettings
    ) -> None:
        # Smallest first, so that the configuration is complete long before the weights.
        self._pairs = sorted(pairs, key=lambda pair: pair[0].size_bytes)
        self._model_id = model_id
        self._folder = folder
        self._settings = settings
        self._stopped = threading.Event()
        self._wake_up = threading.Event()
        self._change = threading.Condition()
        self._parts: list[PartialFile] = []
        self._present_bytes = 0
        self._verified = self._finished = False
        self._urls_expired = False
        self._error: BaseException | None = None
        self._connections = ConnectionPool(settings, model_id)
        self._throttle = Throttle(
            self._stopped, bytes_per_s=settings.speed_limit_mbps * 125_000, first_pause_s=settings.retry_pause_s
        )

    @property
    def done_bytes(self) -> int:
        """The number of bytes present, of all files."""
        return self._present_bytes + sum(part.done_bytes for part in self._parts)

    @property
    def needs_refresh(self) -> bool:
        """Whether a URL has expired. Threads wait until `refresh_urls` is called."""
        return self._urls_expired

    def start(self) -> None:
        """Start the threads. They are daemons, so that a slow name lookup does not delay the exit of the process."""
        threading.Thread(target=self._run, name=f"download {self._model_id}", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Block until a URL has expired, the transfer has ended, or the timeout; returns whether it has ended."""
        self._wake_up.wait(timeout_s)
        self._wake_up.clear()
        return self._finished

    def join(self) -> None:
        """Block until a stopped transfer has ended, for a few seconds at most."""
        with self._change:
            self._change.wait_for(lambda: self._finished, 2 * _JOIN_TIMEOUT_S)

    def stop(self) -> None:
        """Stop the transfer and keep the received data. After `join` has returned, no more data is written."""
        self._stopped.set()
        self._connections.abort()
        with self._change:
            self._change.notify_all()

    def refresh_urls(self, files: Sequence[RemoteFile]) -> None:
        """Replace expired URLs. An empty list means that there are no new ones."""
        urls = {file.path: file.url for file in files}
        with self._change:
            for part in self._parts:
                url = urls.get(part.file.path, part.file.url)
                part.file = RemoteFile(part.file.path, part.file.size_bytes, url, part.file.sha256, part.file.md5)
            self._urls_expired = False
            self._change.notify_all()

    def raise_error(self) -> None:
        """Raise the first error of the threads, if there was one."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._plan()
            fetcher = Fetcher(
                connections=self._connections,
                throttle=self._throttle,
                settings=self._settings,
                model_id=self._model_id,
                stopped=self._stopped,
                refresh_url=self._refresh_url,
                wrap_os_error=self._wrap_os_error,
            )
            self._fetch_and_verify(fetcher)
        except BaseException as error:  # noqa: BLE001 - raised by raise_error
            self._fail(error)
        finally:
            for part in self._parts:
                part.close()
            self._connections.close()
            with self._change:
                self._finished = True
                self._change.notify_all()
            self._wake_up.set()

    def _plan(self) -> None:
        """Find the files that are present, and check that the disk has room for the others."""
        missing = []
        for file, target in self._pairs:
            if verify_or_delete(target, file, self._check_stopped):
                self._present_bytes += file.size_bytes
            else:
                missing.append((file, target))
        self._folder.mkdir(parents=True, exist_ok=True)
        needed_bytes = sum(file.size_bytes - partial_size_bytes(target) for file, target in missing)
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < needed_bytes:
            detail = "there is not enough space"
            raise DiskFullError(path=str(self._folder), detail=detail, needed_bytes=needed_bytes, free_bytes=free_bytes)
        chunk_bytes = max(1, int(self._settings.chunk_mb * 1e6))
        self._parts = [PartialFile(file, target, chunk_bytes) for file, target in missing]

    def _fetch_and_verify(self, fetcher: Fetcher) -> None:
        chunks = sum(-(-part.file.size_bytes // part.chunk_bytes) for part in self._parts)
        threads = [
            threading.Thread(target=self._fetch_chunks, args=(fetcher,), name=f"download {number}", daemon=True)
            for number in range(min(self._settings.workers, chunks))
        ]
        for thread in threads:
            thread.start()
        try:
            for part in self._parts:
                self._verify(part)
        except BaseException:
            self.stop()
            raise
        finally:
            with self._change:
                self._verified = True
                self._change.notify_all()
            deadline = time.monotonic() + _JOIN_TIMEOUT_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _fetch_chunks(self, fetcher: Fetcher) -> None:
        """Fetch one chunk after the other until all files are verified or the transfer is stopped."""
        try:
            while (chunk := self._next_chunk()) is not None:
                part, generation, index = chunk
                try:
                    fetcher.fetch(part, generation, index)
                except StaleChunkError:
                    pass
                except DigestMismatchError:
                    part.delete()
                    raise
                with self._change:
                    self._change.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised by raise_error
            self._fail(error)

    def _next_chunk(self) -> tuple[PartialFile, int, int] | None:
        """Return the next chunk. Waits if there is none now, because a file whose version changed is fetched again."""
        with self._change:
            while not (self._verified or self._stopped.is_set()):
                for part in self._parts:
                    if chunk := part.next_chunk():
                        return part, *chunk
                self._change.wait()
        return None

    def _verify(self, part: PartialFile) -> None:
        """Wait until a file is complete, compare its digest, and move it to its target."""
        actual = self._compute_digest(part)
        expected = announced_digest(part.file)
        if actual != expected:
            part.delete()
            raise mismatch_error(part.file, self._model_id, url=part.file.url, expected=expected, actual=actual)
        try:
            part.finish()
        except OSError as error:
            raise self._wrap_os_error(error) from error

    def _compute_digest(self, part: PartialFile) -> str:
        """Compute the digest of a file while it is being written. Starts again whenever the file restarts."""
        while True:
            generation, hashed = part.generation, 0
            digest = FileDigest(part.file)
            while part.generation == generation and hashed < part.file.size_bytes:
                available = self._wait_for_bytes(part, hashed)
                digest.update(part.part_path, start=hashed, end=available, check_stopped=self._check_stopped)
                hashed = available
            if part.generation == generation:
                return digest.text

    def _wait_for_bytes(self, part: PartialFile, hashed: int) -> int:
        """Wait for bytes behind the hashed ones; returns the end of the contiguous data."""
        generation = part.generation
        with self._change:
            while part.generation == generation and (available := part.contiguous_bytes) <= hashed:
                self._check_stopped()
                self._change.wait(_POLL_S)
            return available if part.generation == generation else hashed

    def _refresh_url(self, part: PartialFile, url: str) -> bool:
        """Request new URLs and wait for them, unless another thread has; returns whether this file's URL changed."""
        with self._change:
            if part.file.url == url:
                self._urls_expired = True
                self._wake_up.set()
                self._change.wait_for(lambda: not self._urls_expired or self._stopped.is_set())
            self._check_stopped()
            return part.file.url != url

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise StaleChunkError

    def _fail(self, error: BaseException) -> None:
        """Keep the first error and stop the transfer."""
        with self._change:
            if self._error is None and not isinstance(error, StaleChunkError):
                self._error = self._wrap_os_error(error) if isinstance(error, OSError) else error
        self.stop()

    def _wrap_os_error(self, error: OSError) -> CacheError:
        needed_bytes = sum(file.size_bytes for file, _ in self._pairs) - self.done_bytes
        wrapped = CacheError.from_os(error, self._folder, needed_bytes=needed_bytes)
        wrapped.__cause__ = error
        return wrapped
