"""A model that is loading, loaded or being unloaded."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import psutil

from cupola.contracts import ModelInfo, ResidentStatus
from cupola.errors import CupolaError
from cupola.worker.process import Worker, WorkerSpec


class Changes:
    """Wakes tasks that wait for a condition on the residents."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        """Let all waiting tasks check their condition."""
        self._event.set()
        self._event = anyio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        while not condition():
            await self._event.wait()

    async def next(self) -> None:
        """Wait for the next change."""
        await self._event.wait()


@dataclass(slots=True, eq=False)
class Resident:
    """A model and its worker. Code that changes a resident notifies the waiting tasks.

    Attributes:
        info: The model.
        spec: How its worker is started.
        changes: Notifies tasks that wait for a change.
        pinned: Whether it is exempt from unloading to free memory.
        worker: Its worker; None while it is loading.
        error: Why loading failed.
        turns: The number of running turns.
        ttl_s: Idle seconds before it is unloaded; 0 means never.
        used_at: When its last turn started or ended, on the event loop's clock.
        expected_bytes: Estimated memory while it is loading.
        waiting: The number of requests that wait for it to load.
        leaving: Whether it is being unloaded, so that no new turn may start.
        gone: Whether its process has ended.
        reason: Why it ended, for observers.
    """

    info: ModelInfo
    spec: WorkerSpec
    ttl_s: float
    used_at: float
    changes: Changes
    pinned: bool = False
    expected_bytes: int = 0
    worker: Worker | None = None
    error: CupolaError | None = None
    turns: int = 0
    waiting: int = 0
    leaving: bool = False
    gone: bool = False
    reason: str = "failed"

    @property
    def expires_at(self) -> float:
        """When it will be unloaded if it stays idle, on the event loop's clock."""
        return math.inf if self.busy or not self.ttl_s else self.used_at + self.ttl_s

    @property
    def busy(self) -> bool:
        """Whether it is loading, in use, or about to be used, so that it must not be unloaded."""
        return bool(self.turns or self.waiting or self.worker is None)

    @property
    def footprint_bytes(self) -> int:
        """The current memory of its worker; while it is loading, the estimate."""
        if self.worker is None:
            return self.expected_bytes
        try:
            return int(psutil.Process(self.worker.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def touch(self) -> None:
        """Reset the idle timer."""
        self.used_at = anyio.current_time()
        self.changes.notify()

    async def loaded(self) -> None:
        """Wait until it is loaded or has failed."""
        await self.changes.until(lambda: self.worker or self.gone)

    async def settled(self) -> None:
        """Wait until it is gone, or no longer being unloaded."""
        await self.changes.until(lambda: self.gone or not self.leaving)

    async def ended(self) -> None:
        """Wait until its process has ended."""
        await self.changes.until(lambda: self.gone)

    def status(self, worker: Worker) -> ResidentStatus:
        """Return its status for front-ends."""
        left = self.expires_at - anyio.current_time()
        return ResidentStatus(
            info=self.info,
            report=worker.report,
            pid=worker.pid,
            turns=self.turns,
            ttl_s=self.ttl_s or None,
            expires_in_s=None if left == math.inf else max(0.0, left),
            memory_bytes=self.footprint_bytes,
            pinned=self.pinned,
        )
