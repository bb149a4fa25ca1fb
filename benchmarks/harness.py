"""What every benchmark needs: medians with spread, the machine's description, and the noise of its neighbours."""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

from cupola import Settings
from cupola.engine import open_engine
from cupola_server.bench.machine import MemoryPace, Meter, describe

RESULTS = Path(__file__).parent / "results"
_SLOW_BOUND = 1.15


class Figure(msgspec.Struct, frozen=True):
    """One measured quantity: every value, in the order of the rounds."""

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.4g} {self.unit} ({min(self.values):.4g} to {max(self.values):.4g})"


def ratio(first: Figure, second: Figure) -> Figure:
    """Divide two figures round by round, so that what slowed a whole round down cancels out."""
    return Figure("times", tuple(a / b for a, b in zip(first.values, second.values, strict=True)))


def interleaved(
    rounds: int, tasks: dict[str, Callable[[], float]], pause_s: float = 0.3, *, computes: bool = True
) -> dict[str, list[float]]:
    """Run every task once per round, in reversed order on odd rounds; the first round warms up and does not count.

    Before each one spinning threads of the one before calm down. Tasks that compute wait as well, for some seconds at
    most, until no neighbour of a virtual machine slows its memory down; what that reads leaves caches cold.
    """
    values: dict[str, list[float]] = {name: [] for name in tasks}
    pace = MemoryPace(calm_s=pause_s) if computes and rounds > 1 else None
    for number in range(rounds + 1):
        for name in tasks if number % 2 else reversed(tasks):
            if pace and number:
                anyio.run(_settled, pace)
            else:
                time.sleep(pause_s)
            value = tasks[name]()
            if number:
                values[name].append(value)
    return values


async def _settled(pace: MemoryPace) -> None:
    await pace.slowness()
    await pace.settle(_SLOW_BOUND)


@contextmanager
def neighbours() -> Iterator[list[float]]:
    """Measure how many cores other processes used while the block ran; the list gets one number."""
    meter = Meter((os.getpid(),))
    found: list[float] = []
    yield found
    meter.stop()
    found.append(meter.others_cores)


def machine() -> dict[str, object]:
    """Describe where the figures were taken."""
    found = describe()
    return {
        "when": found.when,
        "platform": found.platform,
        "processor": found.processor,
        "cores": found.cores,
        "memory_bytes": found.memory_bytes,
        "python": found.python,
        "packages": found.versions,
    }


def save(name: str, figures: dict[str, Figure], checks: Sequence[tuple[str, bool]], **extra: object) -> Path:
    """Write the figures of one run under `benchmarks/results/`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "machine": machine(),
        "figures": {key: {"median": f.median, "unit": f.unit, "values": f.values} for key, f in figures.items()},
        "checks": [{"what": what, "met": met} for what, met in checks],
        **extra,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return path


def show(title: str, figures: dict[str, Figure], checks: Sequence[tuple[str, bool]], others_cores: float) -> None:
    """Print what was measured, and which goals were met."""
    table = Table("figure", "median", "from", "to", "unit", title=title)
    for name, figure in figures.items():
        low, high = min(figure.values), max(figure.values)
        table.add_row(name, f"{figure.median:.4g}", f"{low:.4g}", f"{high:.4g}", figure.unit)
    console = Console()
    console.print(table)
    console.print(f"Other processes used {others_cores:.2f} cores meanwhile.")
    for what, met in checks:
        console.print(f"{'met   ' if met else 'missed'}  {what}")


async def folder_of(settings: Settings, model: str) -> Path:
    """Return the folder of a model, downloading it if need be."""
    async with open_engine(settings) as engine:
        return (await engine.download(model)).path
