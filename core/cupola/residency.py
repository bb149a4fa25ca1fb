"""Which models are loaded: on demand, kept while used, unloaded when idle or asked.

One task per resident model owns its worker. Everybody who needs a model waits on that one load.
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from cupola.contracts import Event, ModelInfo, ModelLoaded, ModelUnloaded, ResidentStatus
from cupola.errors import CupolaError, ModelBusyError, WorkerError
from cupola.worker.process import Worker, WorkerSpec, open_worker

logger = logging.getLogger(__name__)
_FAILURE_WINDOW_S = 60.0


@dataclass(slots=True, eq=False)
class _Resident:
    """A model that is loading, loaded or leaving. Whoever changes it calls `touch` or `notify`."""

    info: ModelInfo
    spec: WorkerSpec
    ttl_s: float
    used_at: float
    worker: Worker | None = None
    error: CupolaError | None = None
    turns: int = 0
    waiting: int = 0
    leaving: bool = False
    gone: bool = False
    reason: str = "failed"
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def expires_at(self) -> float:
        """When it is unloaded if nothing happens, on the event loop's clock."""
        busy = self.turns or self.waiting or self.worker is None
        return math.inf if busy or not self.ttl_s else self.used_at + self.ttl_s

    def touch(self) -> None:
        """Restart the idle clock."""
        self.used_at = anyio.current_time()
        self.notify()

    def notify(self) -> None:
        """Let whoever waits for a change look again."""
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        while not condition():
            await self.changed.wait()

    async def loaded(self) -> None:
        """Wait until it is loaded, or never will be."""
        await self.until(lambda: self.worker or self.gone)

    async def settled(self) -> None:
        """Wait until it is gone, or stays after all."""
        await self.until(lambda: self.gone or not self.leaving)


class Residency:
    """The loaded models. An async context; leaving it ends every worker."""

    def __init__(self, *, default_ttl_s: float, restart_limit: int, observe: Callable[[Event], None]) -> None:
        self._default_ttl_s = default_ttl_s
        self._restart_limit = restart_limit
        self._observe = observe
        self._residents: dict[str, _Resident] = {}
        self._failures: dict[str, deque[float]] = {}
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        for resident in self._residents.values():
            resident.reason = "stopping"
        self._tasks.cancel_scope.cancel()
        if kind is None or issubclass(kind, anyio.get_cancelled_exc_class()):
            return await self._tasks.__aexit__(kind, error, trace)
        await self._tasks.__aexit__(None, None, None)
        return None  # the caller's error leaves as it is, in no group

    @asynccontextmanager
    async def use(self, info: ModelInfo, spec: WorkerSpec, ttl_s: float | None) -> AsyncIterator[Worker]:
        """Hold a model for one turn, loading it first if needed. It is not unloaded meanwhile.

        Args:
            info: The variant.
            spec: How to start its worker, if it must be started.
            ttl_s: Idle seconds after which it may go; None keeps what the resident has, or the default.

        Raises:
            CupolaError: It could not be loaded.
        """
        resident, worker = await self._acquire(info, spec, ttl_s)
        resident.turns += 1
        resident.touch()
        try:
            yield worker
        finally:
            resident.turns -= 1
            resident.touch()

    async def load(self, info: ModelInfo, spec: WorkerSpec, ttl_s: float | None) -> ResidentStatus:
        """Load a model, or restart the idle clock of a loaded one."""
        resident, worker = await self._acquire(info, spec, ttl_s)
        resident.touch()
        return _status(resident, worker)

    async def unload(self, model_id: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; False if it was not there. New turns wait until it is decided, then load it again.

        Raises:
            ModelBusyError: Its turns did not end within `wait_s`; it stays.
        """
        resident = self._residents.get(model_id)
        if resident is None:
            return False
        resident.leaving = True
        try:
            with anyio.move_on_after(0 if force else wait_s):
                await resident.until(lambda: not resident.turns)
            if resident.turns and not force:
                raise ModelBusyError(model=model_id, turns=resident.turns)
            await resident.loaded()
        except BaseException:
            resident.leaving = False
            resident.notify()
            raise
        await self._end(resident, "asked")
        await resident.until(lambda: resident.gone)
        return True

    def find(self, name: str) -> tuple[ModelInfo, WorkerSpec] | None:
        """Find a resident by id, id without version, or alias, whatever the case."""
        wanted = name.strip().lower()
        for resident in self._residents.values():
            info = resident.info
            if wanted in (info.id.lower(), info.name.lower(), info.alias.lower()):
                return info, resident.spec
        return None

    def statuses(self) -> list[ResidentStatus]:
        """List the loaded models, most recently used first."""
        ready = [(resident, resident.worker) for resident in self._residents.values() if resident.worker]
        ready.sort(key=lambda pair: -pair[0].used_at)
        return [_status(resident, worker) for resident, worker in ready]

    async def _acquire(self, info: ModelInfo, spec: WorkerSpec, ttl_s: float | None) -> tuple[_Resident, Worker]:
        while True:
            resident = self._residents.get(info.id)
            if resident is None:
                self._refuse_after_failures(info.id)
                resident = _Resident(info, spec, self._default_ttl_s, anyio.current_time())
                self._residents[info.id] = resident
                self._tasks.start_soon(self._keep, resident, name=f"worker of {info.id}")
            if resident.leaving:
                await resident.settled()
                continue
            if ttl_s is not None:
                resident.ttl_s = ttl_s
            resident.waiting += 1
            try:
                await resident.loaded()
            finally:
                resident.waiting -= 1
                resident.touch()
            if resident.error:
                raise copy(resident.error)
            if resident.worker and not (resident.leaving or resident.gone):
                return resident, resident.worker

    async def _keep(self, resident: _Resident) -> None:
        """Own one worker from its start to its end."""
        try:
            async with open_worker(resident.spec) as worker:
                resident.worker = worker
                resident.touch()
                self._observe(ModelLoaded(resident.info.id, worker.report.provider, worker.report.load_s))
                async with anyio.create_task_group() as group:
                    group.start_soon(self._expire, resident)
                    try:
                        await worker.run()
                    finally:
                        resident.worker = None
                        if not resident.leaving:  # it failed: the next request need not wait for its end
                            self._forget(resident)
                    group.cancel_scope.cancel()
        except* CupolaError as errors:
            self._failed(resident, _leaf(errors))
        finally:
            self._forget(resident)
            if resident.reason == "stopping":
                resident.error = WorkerError(detail="The service is stopping.")
            resident.worker, resident.gone = None, True
            resident.notify()
            self._observe(ModelUnloaded(resident.info.id, resident.reason))

    def _forget(self, resident: _Resident) -> None:
        """Let the next request start a new worker."""
        if self._residents.get(resident.info.id) is resident:
            del self._residents[resident.info.id]

    def _failed(self, resident: _Resident, error: CupolaError) -> None:
        logger.warning("%s", error)
        resident.error = error
        if isinstance(error, WorkerError):
            self._failures.setdefault(resident.info.id, deque(maxlen=self._restart_limit)).append(anyio.current_time())

    def _refuse_after_failures(self, model_id: str) -> None:
        failures = self._failures.get(model_id, deque())
        left = failures[0] + _FAILURE_WINDOW_S - anyio.current_time() if failures else 0.0
        if len(failures) >= self._restart_limit and left > 0:
            raise WorkerError(
                detail=f"The worker of {model_id!r} failed {len(failures)} times within {_FAILURE_WINDOW_S:g} s. "
                f"It is started again in {math.ceil(left)} s; the service's log has the reasons."
            )

    async def _expire(self, resident: _Resident) -> None:
        """Unload the model once it was idle for its time. The clock is monotonic: setting the time changes nothing."""
        while (left := resident.expires_at - anyio.current_time()) > 0:
            changed = resident.changed
            with anyio.move_on_after(None if left == math.inf else left):
                await changed.wait()
        resident.leaving = True
        await self._end(resident, "idle")

    async def _end(self, resident: _Resident, reason: str) -> None:
        resident.reason = reason
        if resident.worker is not None:
            await resident.worker.close(WorkerError(detail=f"{resident.info.id!r} was unloaded."))


def _status(resident: _Resident, worker: Worker) -> ResidentStatus:
    left = resident.expires_at - anyio.current_time()
    return ResidentStatus(
        info=resident.info,
        report=worker.report,
        pid=worker.pid,
        turns=resident.turns,
        ttl_s=resident.ttl_s or None,
        expires_in_s=None if left == math.inf else max(0.0, left),
    )


def _leaf(group: BaseExceptionGroup[CupolaError]) -> CupolaError:
    """Return the first error in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CupolaError)
    return error
