"""Downloads as jobs, which several tasks can join, watch and cancel."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Literal, Self

import anyio
from anyio.abc import TaskGroup

from cupola.contracts import CachedModel, DownloadStatus, ModelInfo, Progress, ProgressEvent
from cupola.errors import DownloadError

DownloadFunction = Callable[[Progress], Awaitable[CachedModel]]
"""Downloads one model and reports its progress."""

_HISTORY_LENGTH = 20
_RATE_WINDOW_S = 5.0


class DownloadJobs:
    """The downloads of the engine. An async context; leaving it cancels the running ones."""

    def __init__(self) -> None:
        self._running: dict[str, DownloadJob] = {}
        self._ended: deque[DownloadJob] = deque(maxlen=_HISTORY_LENGTH)
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        if kind is None or issubclass(kind, anyio.get_cancelled_exc_class()):
            return await self._tasks.__aexit__(kind, error, trace)
        await self._tasks.__aexit__(None, None, None)
        return None  # the caller's exception propagates as it is, not in an exception group

    async def join(self, info: ModelInfo, download: DownloadFunction, progress: Progress) -> CachedModel:
        """Start a download, or join the running one of the same model, and wait for it; see `DownloadJob.wait`."""
        return await (await self._get_or_start(info, download)).wait(progress)

    async def start(self, info: ModelInfo, download: DownloadFunction) -> DownloadStatus:
        """Start a download in the background, or detach the running one of the same model from its waiting tasks."""
        job = await self._get_or_start(info, download)
        job.detached = True
        return job.status

    def cancel(self, model_id: str) -> bool:
        """Cancel a download, even if tasks wait for it; returns False if there is none."""
        job = self._running.get(model_id)
        if job is not None:
            job.scope.cancel()
        return job is not None

    def statuses(self) -> Sequence[DownloadStatus]:
        """List the running downloads, then the last ones that ended, most recent first."""
        return [job.status for job in (*self._running.values(), *reversed(self._ended))]

    async def _get_or_start(self, info: ModelInfo, download: DownloadFunction) -> "DownloadJob":
        while (job := self._running.get(info.id)) is not None:
            if not job.scope.cancel_called:
                return job
            await job.ended.wait()  # it is being cancelled; the new download resumes it
        job = self._running[info.id] = DownloadJob(info)
        self._tasks.start_soon(self._run, job, download, name=f"download {info.id}")
        return job

    async def _run(self, job: "DownloadJob", download: DownloadFunction) -> None:
        try:
            with job.scope:
                job.result = await download(job.report)
        except Exception as error:  # noqa: BLE001 - raised in the waiting tasks
            job.error = error
        finally:
            del self._running[job.info.id]
            for earlier in [earlier for earlier in self._ended if earlier.info.id == job.info.id]:
                self._ended.remove(earlier)
            self._ended.append(job)
            job.ended.set()


class DownloadJob:
    """One download, for any number of waiting tasks. Created by `DownloadJobs`.

    Attributes:
        info: The model.
        detached: Whether the download continues when no task waits for it.
        scope: Cancels the download. The received data remains for the next attempt.
        ended: Set when the download has succeeded, failed, or been cancelled.
        result, error: The outcome; both are None if the download was cancelled.
    """

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self.detached = False
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self.result: CachedModel | None = None
        self.error: Exception | None = None
        self._last = ProgressEvent("download", 0, 0)
        self._history: deque[tuple[float, int]] = deque()
        self._watchers: dict[object, Progress] = {}

    @property
    def status(self) -> DownloadStatus:
        """The current state of the download."""
        per_s = self._per_s()
        remaining = max(0, self._last.total - self._last.done)
        return DownloadStatus(
            info=self.info,
            state=self._state(),
            progress=self._last,
            per_s=per_s,
            remaining_s=remaining / per_s if per_s and self._last.total and not self.ended.is_set() else None,
            waiting=len(self._watchers),
            detached=self.detached,
            error=str(self.error) if self.error else "",
        )

    def report(self, event: ProgressEvent) -> None:
        """Record progress and pass it on to every waiting task."""
        now = time.monotonic()
        if event.phase != self._last.phase or event.done < self._last.done:
            self._history.clear()
        self._last = event
        self._history.append((now, event.done))
        while now - self._history[0][0] > _RATE_WINDOW_S and len(self._history) > 2:
            self._history.popleft()
        for watcher in [*self._watchers.values()]:
            watcher(event)

    async def wait(self, progress: Progress) -> CachedModel:
        """Wait for the download to end.

        If the last waiting task is cancelled, the download is cancelled as well, unless it is detached. This then
        returns after the download has ended.

        Raises:
            DownloadError, CacheError, ModelFormatError: The download failed, or another task cancelled it.
        """
        key = object()
        self._watchers[key] = progress
        if self._history:
            progress(self._last)
        try:
            await self.ended.wait()
        finally:
            del self._watchers[key]
            if not self._watchers and not self.detached and not self.ended.is_set():
                self.scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self.ended.wait()
        if self.error is not None:
            raise self.error
        if self.result is None:
            detail = "it was cancelled. Start the download again to resume it."
            raise DownloadError(model=self.info.id, detail=detail)
        return self.result

    def _state(self) -> Literal["running", "done", "failed", "cancelled"]:
        if not self.ended.is_set():
            return "running"
        if self.error is not None:
            return "failed"
        return "cancelled" if self.result is None else "done"

    def _per_s(self) -> float:
        if len(self._history) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._history[0], self._history[-1]
        return max(0.0, (last - first) / (last_at - first_at)) if last_at > first_at else 0.0
