"""How fast memory is just now: machines that share a host with this one slow it down, and no counter shows it."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
from anyio import to_thread

from cupola_server.bench.machine import cores

_BYTES, _READS = 64_000_000, 3
_CALM_S, _FRESH_S, _WINDOW_S, _PATIENCE_S = 0.2, 0.3, 120.0, 20.0


class MemoryPace:
    """Reads more memory than caches hold, on all cores, for some milliseconds, and compares with the best of late.

    Prompts of a small model take half as long again while a neighbour uses the memory's bandwidth, which it does for
    seconds at a time.

    Args:
        read: Reads once and returns the seconds it took; for tests.
        calm_s: Wait before reading: threads of whoever was measured before may spin for a while.
    """

    def __init__(self, read: Callable[[], float] | None = None, calm_s: float = _CALM_S) -> None:
        self._read = read or _reader()
        self._calm_s = calm_s
        self._lately: deque[tuple[float, float]] = deque()

    async def slowness(self) -> float:
        """Return how many times longer reading takes than it took at best within the last two minutes."""
        await anyio.sleep(self._calm_s)
        took_s = await to_thread.run_sync(self._best_of_some)
        now = time.monotonic()
        self._lately.append((now, took_s))
        while now - self._lately[0][0] > _WINDOW_S:
            self._lately.popleft()
        return self._last()

    async def settle(self, bound: float, patience_s: float = _PATIENCE_S) -> float:
        """Wait until it is at most so many times slower than at best, or patience ends; returns how slow it is."""
        fresh = self._lately and time.monotonic() - self._lately[-1][0] < _FRESH_S
        slowness = self._last() if fresh else await self.slowness()
        with anyio.move_on_after(patience_s):
            while slowness > bound:
                slowness = await self.slowness()
        return slowness

    def _last(self) -> float:
        return self._lately[-1][1] / min(took_s for _, took_s in self._lately)

    def _best_of_some(self) -> float:
        return min(self._read() for _ in range(_READS))


def _reader() -> Callable[[], float]:
    import numpy as np  # noqa: PLC0415

    numbers = np.ones(_BYTES // 4, np.float32)
    threads = cores()
    pool = ThreadPoolExecutor(threads, "memory-pace")

    def read_all(_: Any) -> float:
        return float(numbers.sum())

    def read() -> float:
        began = time.perf_counter()
        list(pool.map(read_all, range(threads)))
        return time.perf_counter() - began

    return read
