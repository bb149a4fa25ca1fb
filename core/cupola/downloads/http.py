"""Files over HTTP: in parallel, resumed, checked, and put in place only when whole."""

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from cupola.contracts import ModelInfo, Progress, ProgressEvent, RemoteFile
from cupola.contracts.catalog import Refresh
from cupola.downloads.connections import Connections
from cupola.downloads.fetcher import Fetcher, Pacing, mismatch
from cupola.downloads.files import digest_name, feed, is_whole, name_of, new_digest, targets
from cupola.downloads.partial_file import PartialFile, Superseded, partial_bytes
from cupola.errors import CacheError, DigestMismatchError, DiskFullError
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


_PATIENCE_S = 2.0
_LOOK_AGAIN_S = 0.5


class Transfer:
    """One download.

    Args:
        pairs: Every file with its place.
        model_id: For messages.
        folder: For messages about the disk.
        settings: How to fetch.
    """

    def __init__(
        self, pairs: Sequence[tuple[RemoteFile, Path]], model_id: str, folder: Path, settings: DownloadSettings
    ) -> None:
        # Smallest first: what is needed to look at a model is here long before its weights.
        self._pairs = sorted(pairs, key=lambda pair: pair[0].size_bytes)
        self._model_id = model_id
        self._folder = folder
        self._settings = settings
        self._stopped = threading.Event()
        self._attention = threading.Event()
        self._change = threading.Condition()
        self._parts: list[PartialFile] = []
        self._whole_bytes = 0
        self._over = self._finished = False
        self._expired = False
        self._failure: BaseException | None = None
        self._connections = Connections(settings, model_id)
        self._pacing = Pacing(
            self._stopped, bytes_per_s=settings.speed_limit_mbps * 125_000, first_pause_s=settings.retry_pause_s
        )

    @property
    def done_bytes(self) -> int:
        """How much is there, of all files."""
        return self._whole_bytes + sum(part.done_bytes for part in self._parts)

    @property
    def wants_addresses(self) -> bool:
        """Whether an address has expired; see `renew`."""
        return self._expired

    def start(self) -> None:
        """Begin. The threads are daemons: one that a name server keeps waiting must not hold up the process's end."""
        threading.Thread(target=self._run, name=f"download {self._model_id}", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Block until there is something to do, or for so long; returns whether it is over, well or not."""
        self._attention.wait(timeout_s)
        self._attention.clear()
        return self._finished

    def wait_for_end(self) -> None:
        """Block until a stopped transfer has ended; not for ever."""
        with self._change:
            self._change.wait_for(lambda: self._finished, 2 * _PATIENCE_S)

    def stop(self) -> None:
        """End it. What has arrived stays; nothing is written any more once `wait_for_end` has returned."""
        self._stopped.set()
        self._connections.break_off()
        with self._change:
            self._change.notify_all()

    def renew(self, files: Sequence[RemoteFile]) -> None:
        """Take new addresses; none at all means that there is no way to get any."""
        addresses = {file.path: file.url for file in files}
        with self._change:
            for part in self._parts:
                url = addresses.get(part.file.path, part.file.url)
                part.file = RemoteFile(part.file.path, part.file.size_bytes, url, part.file.sha256, part.file.md5)
            self._expired = False
            self._change.notify_all()

    def raise_failure(self) -> None:
        """Raise what went wrong, if something did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._plan()
            fetcher = Fetcher(
                connections=self._connections,
                pacing=self._pacing,
                settings=self._settings,
                model_id=self._model_id,
                stopped=self._stopped,
                renew=self._renewed,
                explain=self._explained,
            )
            self._fetch_and_check(fetcher)
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            self._fail(error)
        finally:
            for part in self._parts:
                part.close()
            self._connections.close()
            with self._change:
                self._finished = True
                self._change.notify_all()
            self._attention.set()

    def _plan(self) -> None:
        """Find what is here already, and make sure that the rest will fit."""
        missing = []
        for file, target in self._pairs:
            if is_whole(target, file, self._check_stopped):
                self._whole_bytes += file.size_bytes
            else:
                missing.append((file, target))
        self._folder.mkdir(parents=True, exist_ok=True)
        needed_bytes = sum(file.size_bytes - partial_bytes(target) for file, target in missing)
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < needed_bytes:
            raise DiskFullError(
                path=str(self._folder), detail="the files do not fit", needed_bytes=needed_bytes, free_bytes=free_bytes
            )
        chunk_bytes = max(1, int(self._settings.chunk_mb * 1e6))
        self._parts = [PartialFile(file, target, chunk_bytes) for file, target in missing]

    def _fetch_and_check(self, fetcher: Fetcher) -> None:
        chunks = sum(-(-part.file.size_bytes // part.chunk_bytes) for part in self._parts)
        threads = [
            threading.Thread(target=self._work, args=(fetcher,), name=f"download {number}", daemon=True)
            for number in range(min(self._settings.workers, chunks))
        ]
        for thread in threads:
            thread.start()
        try:
            for part in self._parts:
                self._check(part)
        except BaseException:
            self.stop()
            raise
        finally:
            with self._change:
                self._over = True
                self._change.notify_all()
            deadline = time.monotonic() + _PATIENCE_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, fetcher: Fetcher) -> None:
        """Fetch chunk after chunk until there is nothing left to do."""
        try:
            while (taken := self._take()) is not None:
                part, generation, index = taken
                try:
                    fetcher.fetch(part, generation, index)
                except Superseded:
                    pass
                except DigestMismatchError:
                    part.delete()
                    raise
                with self._change:
                    self._change.notify_all()
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            self._fail(error)

    def _take(self) -> tuple[PartialFile, int, int] | None:
        """Hand out the next chunk, waiting for one: a file that changed underway is fetched anew."""
        with self._change:
            while not (self._over or self._stopped.is_set()):
                for part in self._parts:
                    if taken := part.take():
                        return part, *taken
                self._change.wait()
        return None

    def _check(self, part: PartialFile) -> None:
        """Wait until a file is whole, compare its digest, and put it in its place."""
        actual = self._digest(part)
        expected = digest_name(part.file)
        if actual != expected:
            part.delete()
            raise mismatch(part.file, self._model_id, url=part.file.url, expected=expected, actual=actual)
        try:
            part.finish()
        except OSError as error:
            raise self._explained(error) from error

    def _digest(self, part: PartialFile) -> str:
        """Digest a file while it fills, reading what the threads have written so far."""
        while True:
            generation, hashed = part.generation, 0
            digest = new_digest(part.file)
            while part.generation == generation and hashed < part.file.size_bytes:
                there = self._wait_for_more(part, hashed)
                if digest_name(part.file):
                    feed(digest, part.part_path, start=hashed, end=there, check=self._check_stopped)
                hashed = there
            if part.generation == generation:
                return name_of(digest, part.file)

    def _wait_for_more(self, part: PartialFile, hashed: int) -> int:
        generation = part.generation
        with self._change:
            while part.generation == generation and (there := part.frontier_bytes) <= hashed:
                self._check_stopped()
                self._change.wait(_LOOK_AGAIN_S)
            return there if part.generation == generation else hashed

    def _renewed(self, part: PartialFile, url: str) -> bool:
        """Ask for a new address in place of one that was refused, and wait for it."""
        with self._change:
            if part.file.url == url:
                self._expired = True
                self._attention.set()
                self._change.wait_for(lambda: not self._expired or self._stopped.is_set())
            self._check_stopped()
            return part.file.url != url

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Superseded

    def _fail(self, error: BaseException) -> None:
        """Remember the first thing that went wrong, and end everything."""
        with self._change:
            if self._failure is None and not isinstance(error, Superseded):
                self._failure = self._explained(error) if isinstance(error, OSError) else error
        self.stop()

    def _explained(self, error: OSError) -> CacheError:
        needed_bytes = sum(file.size_bytes for file, _ in self._pairs) - self.done_bytes
        explained = CacheError.from_os(error, self._folder, needed_bytes=needed_bytes)
        explained.__cause__ = error
        return explained
