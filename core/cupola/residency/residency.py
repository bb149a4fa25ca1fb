"""The loaded models: loaded on demand, kept while in use, unloaded when idle or on request.

One task per resident owns its worker. All requests for a model wait for the same load.
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
import psutil
from anyio.abc import TaskGroup

from cupola.contracts import Event, ModelInfo, ModelLoaded, ModelUnloaded, ResidentStatus
from cupola.errors import CupolaError, MemoryBudgetError, ModelBusyError, WorkerError
from cupola.protocol import Load
from cupola.residency.resident import Changes, Resident
from cupola.settings import ModelSettings, WorkerSettings
from cupola.worker.process import Worker, WorkerSpec, open_worker

logger = logging.getLogger(__name__)
_FAILURE_WINDOW_S = 60.0


_PROCESS_BYTES = 100_000_000
"""Estimated memory of a worker besides its weights, until it is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyLimits:
    """Limits for loaded models.

    Attributes:
        default_ttl_s: Idle seconds before a model is unloaded; 0 means never.
        restart_limit: How many times one model may fail within a minute before further starts are refused.
        memory_budget_bytes: Memory that all workers may use together before idle models are unloaded.
        pinned: Ids, names or aliases, in lower case, of models that are never unloaded to make room.
    """

    default_ttl_s: float
    restart_limit: int
    memory_budget_bytes: int
    pinned: frozenset[str] = frozenset()

    @staticmethod
    def from_settings(models: ModelSettings, worker: WorkerSettings) -> "ResidencyLimits":
        """Create the limits from the settings. The default budget is three quarters of the memory."""
        return ResidencyLimits(
            default_ttl_s=models.ttl_s,
            restart_limit=worker.restart_limit,
            memory_budget_bytes=models.memory_budget_mb * 10**6 or psutil.virtual_memory().total * 3 // 4,
            pinned=frozenset(name.lower() for name in models.pinned),
        )


class Residency:
    """The loaded models. Leaving this async context stops all workers."""

    def __init__(self, limits: ResidencyLimits, observe: Callable[[Event], None]) -> None:
        self._limits = limits
        self._observe = observe
        self._changes = Changes()
        self._footprints: dict[str, int] = {}
        self._residents: dict[str, Resident] = {}
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
        return None  # do not wrap the caller's error in a group

    @asynccontextmanager
    async def use(self, info: ModelInfo, spec: WorkerSpec, ttl_s: float | None) -> AsyncIterator[Worker]:
        """Hold a model for one turn, loading it if needed. It is not unloaded in the meantime.

        Args:
            info: The variant.
            spec: How to start its worker.
            ttl_s: Idle seconds before the model may be unloaded; None keeps the current value or the default.

        Raises:
            CupolaError: The model could not be loaded.
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
        """Load a model, or reset the idle timer of a loaded one."""
        resident, worker = await self._acquire(info, spec, ttl_s)
        resident.touch()
        return resident.status(worker)

    async def unload(self, model_id: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; False if it was not loaded. New turns wait for the outcome, then load it again.

        Raises:
            ModelBusyError: Its turns did not end within `wait_s`; it stays loaded.
        """
        resident = self._residents.get(model_id)
        if resident is None:
            return False
        resident.leaving = True
        try:
            with anyio.move_on_after(0 if force else wait_s):
                await self._changes.until(lambda: not resident.turns)
            if resident.turns and not force:
                raise ModelBusyError(model=model_id, turns=resident.turns)
            await resident.loaded()
        except BaseException:
            resident.leaving = False
            self._changes.notify()
            raise
        await self._end(resident, "asked")
        await resident.ended()
        return True

    def find(self, name: str) -> tuple[ModelInfo, WorkerSpec] | None:
        """Find a resident by id, id without version, or alias, ignoring case."""
        wanted = name.strip().lower()
        for resident in self._residents.values():
            info = resident.info
            if wanted in (info.id.lower(), info.name.lower(), info.alias.lower()):
                return info, resident.spec
        return None

    def loads(self) -> list[tuple[ModelInfo, Load]]:
        """List the models that are loaded or loading, and where."""
        return [(resident.info, resident.spec.load) for resident in self._residents.values()]

    def statuses(self) -> list[ResidentStatus]:
        """List the loaded models, most recently used first."""
        ready = [(resident, resident.worker) for resident in self._residents.values() if resident.worker]
        ready.sort(key=lambda pair: -pair[0].used_at)
        return [resident.status(worker) for resident, worker in ready]

    async def _acquire(self, info: ModelInfo, spec: WorkerSpec, ttl_s: float | None) -> tuple[Resident, Worker]:
        while True:
            resident = self._residents.get(info.id)
            if resident is None:
                self._refuse_after_failures(info.id)
                pinned = bool(self._limits.pinned & {info.id.lower(), info.name.lower(), info.alias.lower()})
                ttl = self._limits.default_ttl_s
                resident = Resident(info, spec, ttl, anyio.current_time(), self._changes, pinned)
                self._residents[info.id] = resident
                self._tasks.start_soon(self._run_worker, resident, name=f"worker of {info.id}")
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

    async def _run_worker(self, resident: Resident) -> None:
        """Run one worker from its start to its end."""
        provider = ""
        try:
            await self._make_room(resident)
            async with open_worker(resident.spec) as worker:
                resident.worker = worker
                resident.touch()
                provider = worker.report.provider
                self._observe(ModelLoaded(resident.info.id, provider, worker.report.load_s))
                async with anyio.create_task_group() as group:
                    group.start_soon(self._expire, resident)
                    try:
                        await worker.run()
                    finally:
                        self._footprints[resident.info.id] = resident.footprint_bytes or worker.report.resident_bytes
                        resident.worker = None
                        if not resident.leaving:  # it failed, so the next request need not wait for its end
                            self._forget(resident)
                    group.cancel_scope.cancel()
        except* CupolaError as errors:
            self._record_failure(resident, _leaf(errors))
        finally:
            self._forget(resident)
            if resident.reason == "stopping":
                resident.error = WorkerError(detail="The service is stopping.")
            resident.worker, resident.gone = None, True
            self._changes.notify()
            self._observe(ModelUnloaded(resident.info.id, resident.reason, provider))

    async def _make_room(self, resident: Resident) -> None:
        """Unload idle models, least recently used first, until this one fits into the budget.

        A model's need is its last measured memory, or an estimate from its files. An estimate alone never refuses a
        model: without other loaded models it is always tried.

        Raises:
            MemoryBudgetError: The other models did not become idle in time.
        """
        info = resident.info
        needed = self._footprints.get(info.id, int(info.size_bytes * 1.2) + _PROCESS_BYTES)
        with anyio.move_on_after(resident.spec.load_timeout_s):
            while (others := self._others(resident)) and not self._fits(needed, others):
                idle = [other for other in others if not (other.busy or other.pinned or other.leaving)]
                if idle:
                    oldest = min(idle, key=lambda other: other.used_at)
                    oldest.leaving = True
                    await self._end(oldest, "evicted")
                    await oldest.ended()
                elif all(other.pinned for other in others):
                    break
                else:
                    await self._changes.next()
        if others and not self._fits(needed, others):
            raise MemoryBudgetError(
                model=info.id,
                needed_bytes=needed,
                budget_bytes=self._limits.memory_budget_bytes,
                holders=", ".join(other.info.id for other in others),
            )
        resident.expected_bytes = needed

    def _others(self, resident: Resident) -> list[Resident]:
        """Return the other residents that use memory or are about to."""
        return [r for r in self._residents.values() if r is not resident and (r.worker or r.expected_bytes)]

    def _fits(self, needed: int, others: list[Resident]) -> bool:
        return needed + sum(other.footprint_bytes for other in others) <= self._limits.memory_budget_bytes

    def _forget(self, resident: Resident) -> None:
        """Remove a resident, so that the next request starts a new worker."""
        if self._residents.get(resident.info.id) is resident:
            del self._residents[resident.info.id]

    def _record_failure(self, resident: Resident, error: CupolaError) -> None:
        logger.warning("%s", error)
        resident.error = error
        if isinstance(error, WorkerError):
            self._failures.setdefault(resident.info.id, deque(maxlen=self._limits.restart_limit)).append(
                anyio.current_time()
            )

    def _refuse_after_failures(self, model_id: str) -> None:
        failures = self._failures.get(model_id, deque())
        left = failures[0] + _FAILURE_WINDOW_S - anyio.current_time() if failures else 0.0
        if len(failures) >= self._limits.restart_limit and left > 0:
            raise WorkerError(
                detail=f"The worker of {model_id!r} failed {len(failures)} times within {_FAILURE_WINDOW_S:g} s. "
                f"It can be started again in {math.ceil(left)} s. See the service's log for the reasons."
            )

    async def _expire(self, resident: Resident) -> None:
        """Unload the model after its idle time, measured on a monotonic clock."""
        while (left := resident.expires_at - anyio.current_time()) > 0:
            with anyio.move_on_after(None if left == math.inf else left):
                await self._changes.next()
        resident.leaving = True
        await self._end(resident, "idle")

    async def _end(self, resident: Resident, reason: str) -> None:
        resident.reason = reason
        if resident.worker is not None:
            await resident.worker.close(WorkerError(detail=f"{resident.info.id!r} was unloaded."))


def _leaf(group: BaseExceptionGroup[CupolaError]) -> CupolaError:
    """Return the first error in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CupolaError)
    return error
