"""One model that is loading, loaded or leaving."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import psutil

from cupola.contracts import ModelInfo, ResidentStatus
from cupola.errors import CupolaError
from cupola.worker.process import Worker, WorkerSpec


class Changes:
    """Wakes whoever waits for something about the residents to become true."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        """Let everybody who waits look again."""
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
    """A model and its worker. Whoever changes it notifies the others.

    Attributes:
        ttl_s: Idle seconds after which it is unloaded; 0 means never.
        used_at: When its last turn began or ended, on the event loop's clock.
        expected_bytes: What it will need, while it is loading.
        waiting: Requests that wait for it to load.
        leaving: It is being unloaded; no new turn may start.
        gone: Its process has ended.
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
        """When it is unloaded if nothing happens, on the event loop's clock."""
        return math.inf if self.busy or not self.ttl_s else self.used_at + self.ttl_s

    @property
    def busy(self) -> bool:
        """Whether it must stay: it is loading, or somebody uses it or is about to."""
        return bool(self.turns or self.waiting or self.worker is None)

    @property
    def footprint_bytes(self) -> int:
        """Its worker's memory, measured now; while it is loading, what is expected."""
        if self.worker is None:
            return self.expected_bytes
        try:
            return int(psutil.Process(self.worker.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def touch(self) -> None:
        """Restart the idle clock."""
        self.used_at = anyio.current_time()
        self.changes.notify()

    async def loaded(self) -> None:
        """Wait until it is loaded, or never will be."""
        await self.changes.until(lambda: self.worker or self.gone)

    async def settled(self) -> None:
        """Wait until it is gone, or stays after all."""
        await self.changes.until(lambda: self.gone or not self.leaving)

    async def ended(self) -> None:
        """Wait until its process has ended."""
        await self.changes.until(lambda: self.gone)

    def status(self, worker: Worker) -> ResidentStatus:
        """Describe it for front-ends."""
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
