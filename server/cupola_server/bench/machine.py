"""This machine: its description, and counters of processor time, memory, energy and memory speed."""

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

RAPL_FOLDER = Path("/sys/class/powercap")
_PACKAGES = ("cupola", "onnxruntime", "onnxruntime-genai", "numpy", "starlette", "hypercorn", "msgspec", "anyio")
_BUSY_STATES = ("user", "nice", "system", "irq", "softirq", "steal")
_PROBE_BYTES, _PROBE_READS = 64_000_000, 3
_CALM_S, _FRESH_S, _WINDOW_S, _WAIT_TIMEOUT_S = 0.2, 0.3, 120.0, 20.0


def describe_machine() -> Machine:
    """Describe this machine and the installed packages, now."""
    return Machine(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        platform=platform.platform(),
        processor=_processor_name(),
        cores=count_cores(),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        versions={name: found for name in _PACKAGES if (found := _package_version(name))},
        energy=EnergyCounter().problem,
    )


def count_cores() -> int:
    """Return the number of physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


class Meter:
    """Measures processor time and energy from its construction until `stop`.

    Args:
        process_trees: Processes to measure with all their descendants, those that end meanwhile included.
        processes: Processes to measure without their descendants.
        clients: Processes that send the requests; they count neither as the target nor as others.
        energy: The counter to read energy from.

    Attributes:
        wall_s: Elapsed seconds.
        cpu_s: Processor seconds of the measured processes.
        others_cores: Cores that all other processes used on average.
        energy_j: Energy of all processor packages in joules; None where it cannot be read.
    """

    def __init__(
        self,
        process_trees: Sequence[int],
        processes: Sequence[int] = (),
        clients: Sequence[int] = (),
        energy: "EnergyCounter | None" = None,
    ) -> None:
        self._process_trees, self._processes = tuple(process_trees), tuple(processes)
        self._clients = tuple(clients)
        self._energy = energy or EnergyCounter()
        self._started = time.perf_counter()
        self._before = self._read()
        self._joules = self._energy.read_j()
        self.wall_s = self.cpu_s = self.others_cores = 0.0
        self.energy_j: float | None = None

    def stop(self) -> None:
        """Stop measuring and set the attributes."""
        busy, own, clients = (after - before for after, before in zip(self._read(), self._before, strict=True))
        self.wall_s = max(time.perf_counter() - self._started, 1e-9)
        self.cpu_s = own
        self.others_cores = max(0.0, busy - own - clients) / self.wall_s
        joules = self._energy.read_j()
        if joules is not None and self._joules is not None and joules >= self._joules:
            self.energy_j = joules - self._joules

    def _read(self) -> tuple[float, float, float]:
        own = sum(_cpu_s(process.pid, with_ended_children=True) for process in _processes_of(self._process_trees))
        own += sum(map(_cpu_s, self._processes))
        clients = sum(_cpu_s(pid) for pid in self._clients if pid not in self._processes)
        return _busy_s(), own, clients


class EnergyCounter:
    """Reads the energy counters of the processor packages through RAPL, Linux' powercap interface.

    Attributes:
        problem: Why energy cannot be read; empty if it can.
    """

    def __init__(self, folder: Path = RAPL_FOLDER) -> None:
        self._files = sorted(folder.glob("intel-rapl:[0-9]*/energy_uj")) if folder.is_dir() else []
        self._files = [file for file in self._files if file.parent.name.count(":") == 1]  # packages, not their parts
        self.problem = "" if self._files else f"the kernel provides no energy counters ({folder})"
        if self._files and self.read_j() is None:
            self.problem = f"only the superuser may read {self._files[0]}"

    def read_j(self) -> float | None:
        """Return the sum of the counters in joules; None where there are none. Counters wrap around."""
        try:
            return sum(int(file.read_text("ascii")) for file in self._files) / 1e6 if self._files else None
        except OSError:
            return None


class MemoryProbe:
    """Measures how fast memory is now, relative to its best of the last two minutes.

    Virtual machines on one host share its memory bandwidth, and no counter shows it: prompts of a small model take 50 %
    longer while a neighbor uses it, which it does for seconds at a time. The probe reads 64 MB, more than caches hold,
    on all cores, which takes some milliseconds.

    Args:
        read: Reads once and returns the seconds it took; for tests.
        calm_s: Seconds to wait before reading, because threads of the target measured last may still spin.
    """

    def __init__(self, read: Callable[[], float] | None = None, calm_s: float = _CALM_S) -> None:
        self._read = read or _start_reader()
        self._calm_s = calm_s
        self._recent: deque[tuple[float, float]] = deque()

    async def measure_slowness(self) -> float:
        """Return the time to read memory now over the least within the last two minutes: 1 is as fast as ever."""
        await anyio.sleep(self._calm_s)
        took_s = await to_thread.run_sync(self._read_best)
        now = time.monotonic()
        self._recent.append((now, took_s))
        while now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        return self._last_slowness()

    async def wait_until_fast(self, max_slowness: float, timeout_s: float = _WAIT_TIMEOUT_S) -> float:
        """Wait until memory is at most this many times slower than at its best, or the timeout; return how slow."""
        is_fresh = self._recent and time.monotonic() - self._recent[-1][0] < _FRESH_S
        slowness = self._last_slowness() if is_fresh else await self.measure_slowness()
        with anyio.move_on_after(timeout_s):
            while slowness > max_slowness:
                slowness = await self.measure_slowness()
        return slowness

    def _last_slowness(self) -> float:
        return self._recent[-1][1] / min(took_s for _, took_s in self._recent)

    def _read_best(self) -> float:
        return min(self._read() for _ in range(_PROBE_READS))


def peak_bytes(process_trees: Iterable[int], processes: Iterable[int] = ()) -> int:
    """Return the sum of the peak memory of processes, in bytes.

    Where the system keeps no peak it is what they take now.

    Args:
        process_trees: Processes to count with all their descendants.
        processes: Processes to count without their descendants.
    """
    return sum(map(_peak_bytes, [*(process.pid for process in _processes_of(process_trees)), *processes]))


def _peak_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        peak = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
        if peak:
            return int(peak[1]) * 1024
        memory = psutil.Process(pid).memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    except (OSError, psutil.Error):
        return 0


def _processes_of(process_trees: Iterable[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for pid in process_trees:
        try:
            root = psutil.Process(pid)
            found |= {process.pid: process for process in [root, *root.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    return [*found.values()]


def _cpu_s(pid: int, *, with_ended_children: bool = False) -> float:
    """Return the processor seconds of a process; Linux adds those of ended children to the parent that waited."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended = times.children_user + times.children_system if with_ended_children else 0.0  # 0 where it is not recorded
    return float(times.user + times.system + ended)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in _BUSY_STATES))


def _start_reader() -> Callable[[], float]:
    """Allocate the memory to read and return a function that reads it once on every core."""
    import numpy as np  # noqa: PLC0415

    numbers = np.ones(_PROBE_BYTES // 4, np.float32)
    threads = count_cores()
    pool = ThreadPoolExecutor(threads, "memory-probe")

    def read_all(_: Any) -> float:
        return float(numbers.sum())

    def read() -> float:
        started = time.perf_counter()
        list(pool.map(read_all, range(threads)))
        return time.perf_counter() - started

    return read


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
