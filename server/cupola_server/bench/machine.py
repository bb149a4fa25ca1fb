"""Describes the machine, and tells models apart by a digest of their files."""

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anyio
import psutil
from anyio import to_thread

from cupola_server.bench.results import Machine

_PACKAGES = ("cupola", "onnxruntime", "onnxruntime-genai", "numpy", "starlette", "hypercorn", "msgspec", "anyio")


def describe() -> Machine:
    """Describe this machine, now."""
    energy = Energy()
    return Machine(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        platform=platform.platform(),
        processor=_processor(),
        cores=cores(),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        energy=energy.problem,
    )


def cores() -> int:
    """Count the physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())


RAPL = Path("/sys/class/powercap")
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


class Meter:
    """Measures from its making until `stop`.

    Args:
        roots: The processes that are measured; all below them count as well, those that end meanwhile included.
        alone: More of them, without those below them.
        clients: Processes that ask, and are neither measured nor noise.
        energy: Where energy is read.
    """

    def __init__(
        self,
        roots: Sequence[int],
        alone: Sequence[int] = (),
        clients: Sequence[int] = (),
        energy: "Energy | None" = None,
    ) -> None:
        self._roots, self._alone, self._clients = tuple(roots), tuple(alone), tuple(clients)
        self._energy = energy or Energy()
        self._at = time.perf_counter()
        self._before = self._read()
        self._joules = self._energy.joules()
        self.wall_s = self.cpu_s = self.others_cores = 0.0
        self.energy_j: float | None = None

    def stop(self) -> None:
        """Take the figures."""
        busy, own, clients = (after - before for after, before in zip(self._read(), self._before, strict=True))
        self.wall_s = max(time.perf_counter() - self._at, 1e-9)
        self.cpu_s = own
        self.others_cores = max(0.0, busy - own - clients) / self.wall_s
        joules = self._energy.joules()
        if joules is not None and self._joules is not None and joules >= self._joules:
            self.energy_j = joules - self._joules

    def _read(self) -> tuple[float, float, float]:
        own = _tree_s(self._roots) + sum(map(_own_s, self._alone))
        clients = sum(_own_s(pid) for pid in self._clients if pid not in self._alone)
        return _busy_s(), own, clients


class Energy:
    """Reads the counters of the processor's packages (RAPL), where the kernel shows them and lets us read them."""

    def __init__(self, folder: Path = RAPL) -> None:
        self._files = sorted(folder.glob("intel-rapl:[0-9]*/energy_uj")) if folder.is_dir() else []
        self._files = [file for file in self._files if file.parent.name.count(":") == 1]
        self.problem = "" if self._files else f"the kernel shows no energy counters ({folder})"
        if self._files and self.joules() is None:
            self.problem = f"{self._files[0]} may be read by the superuser only"

    def joules(self) -> float | None:
        """Return what the counters say; None where there are none."""
        try:
            return sum(int(file.read_text("ascii")) for file in self._files) / 1e6 if self._files else None
        except OSError:
            return None


def peak_bytes(roots: Iterable[int], alone: Iterable[int] = ()) -> int:
    """Return the most memory that each of the processes ever took, added up; those below the roots included.

    Where the system keeps no such record it is what they take now.
    """
    return sum(map(_peak, [*(process.pid for process in _tree(roots)), *alone]))


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
        if found:
            return int(found[1]) * 1024
        memory = psutil.Process(pid).memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    except (OSError, psutil.Error):
        return 0


def _tree(roots: Iterable[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        try:
            root = psutil.Process(pid)
            found |= {one.pid: one for one in [root, *root.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    return [*found.values()]


def _tree_s(roots: Iterable[int]) -> float:
    """Return what processes and all below them used; those that ended are in the record of who waited for them."""
    return sum(_own_s(process.pid, ended=True) for process in _tree(roots))


def _own_s(pid: int, *, ended: bool = False) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    of_ended = times.children_user + times.children_system if ended else 0.0  # 0 where the system keeps no record
    return float(times.user + times.system + of_ended)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in _BUSY))


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
