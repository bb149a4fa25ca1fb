"""Downloads as jobs: who asks for a model that is under way joins in; who only wants to look, or to end one, can."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Literal, Self

import anyio
from anyio.abc import TaskGroup

from cupola.contracts import CachedModel, DownloadStatus, ModelInfo, Progress, ProgressEvent
from cupola.errors import DownloadError

Work = Callable[[Progress], Awaitable[CachedModel]]

_REMEMBERED = 20
_RATE_WINDOW_S = 5.0


class DownloadJob:
    """One download, however many wait for it. Made by `DownloadJobs`.

    Attributes:
        info: What is downloaded.
        detached: Whether it goes on when nobody waits for it.
        scope: Cancelling it ends the download; what arrived stays for the next one.
        ended: Set when it is over, well or not.
        result, error: How it ended; neither when it was cancelled.
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
        """Describe it as it is now."""
        per_s = self._per_s()
        left = max(0, self._last.total - self._last.done)
        return DownloadStatus(
            info=self.info,
            state=self._state(),
            progress=self._last,
            per_s=per_s,
            remaining_s=left / per_s if per_s and self._last.total and not self.ended.is_set() else None,
            waiting=len(self._watchers),
            detached=self.detached,
            error=str(self.error) if self.error else "",
        )

    def report(self, event: ProgressEvent) -> None:
        """Take note of progress, and tell everybody who waits."""
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
        """Wait for the end. The last one to leave early cancels it, and waits until it is over, unless it is detached.

        Raises:
            DownloadError, CacheError, ModelFormatError: What it ended with; also when somebody cancelled it.
        """
        me = object()
        self._watchers[me] = progress
        if self._history:
            progress(self._last)
        try:
            await self.ended.wait()
        finally:
            del self._watchers[me]
            if not self._watchers and not self.detached and not self.ended.is_set():
                self.scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self.ended.wait()
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise DownloadError(model=self.info.id, detail="it was cancelled; start it again and it goes on from there")
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


class DownloadJobs:
    """The downloads of a service. An async context; leaving it cancels them all."""

    def __init__(self) -> None:
        self._running: dict[str, DownloadJob] = {}
        self._past: deque[DownloadJob] = deque(maxlen=_REMEMBERED)
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
        return None  # the caller's error leaves as it is, in no group

    async def join(self, info: ModelInfo, work: Work, progress: Progress) -> CachedModel:
        """Start a download, or join the one under way, and wait for it; see `DownloadJob.wait`."""
        return await (await self._job(info, work)).wait(progress)

    async def start(self, info: ModelInfo, work: Work) -> DownloadStatus:
        """Start a download that nobody has to wait for, or let the one under way go on by itself."""
        job = await self._job(info, work)
        job.detached = True
        return job.status

    def cancel(self, model_id: str) -> bool:
        """End a download, whoever waits for it; False if there is none."""
        job = self._running.get(model_id)
        if job is not None:
            job.scope.cancel()
        return job is not None

    def statuses(self) -> Sequence[DownloadStatus]:
        """List the downloads under way, then the last ones that ended, latest first."""
        return [job.status for job in (*self._running.values(), *reversed(self._past))]

    async def _job(self, info: ModelInfo, work: Work) -> DownloadJob:
        while (job := self._running.get(info.id)) is not None:
            if not job.scope.cancel_called:
                return job
            await job.ended.wait()  # it is being cancelled: the next one starts from what it leaves
        job = self._running[info.id] = DownloadJob(info)
        self._tasks.start_soon(self._run, job, work, name=f"download {info.id}")
        return job

    async def _run(self, job: DownloadJob, work: Work) -> None:
        try:
            with job.scope:
                job.result = await work(job.report)
        except Exception as error:  # noqa: BLE001 - carried to whoever waits
            job.error = error
        finally:
            del self._running[job.info.id]
            for past in [past for past in self._past if past.info.id == job.info.id]:
                self._past.remove(past)
            self._past.append(job)
            job.ended.set()
