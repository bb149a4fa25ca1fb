"""What all benchmarks share: options, interleaved rounds, the load by other programs, and result files."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from cupola import Settings
from cupola.engine import open_engine
from cupola_server.bench.machine import MemoryProbe, Meter, describe_machine
from cupola_server.bench.statistics import Figure

RESULTS_FOLDER = Path(__file__).parent / "results"
_MAX_SLOWNESS = 1.15

Checks = Sequence[tuple[str, bool]]
"""Goals, and whether each was met."""


def build_parser(description: str | None, *, rounds: int, model: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks in rounds share.

    Args:
        description: Text for --help.
        rounds: Default number of rounds.
        model: Whether the benchmark has the option --model.
    """
    parser = argparse.ArgumentParser(description=description)
    if model:
        parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--smoke", action="store_true", help="one quick round, no result file, no verdict")
    return parser


def run_interleaved(
    rounds: int, tasks: Mapping[str, Callable[[], float]], pause_s: float = 0.3, *, computes: bool = True
) -> dict[str, list[float]]:
    """Run every task once per round, in reversed order in even rounds. A first round for warm-up does not count.

    Args:
        rounds: Number of rounds that count.
        tasks: Each returns its value; by name.
        pause_s: Wait before each task, because threads of the previous one may still spin.
        computes: Whether tasks compute. If so, each also waits, up to a timeout, until no neighbor of a virtual machine
            slows down memory; that leaves caches cold.

    Returns:
        The values of each task, in the order of the rounds.
    """
    values: dict[str, list[float]] = {name: [] for name in tasks}
    memory = MemoryProbe(calm_s=pause_s) if computes and rounds > 1 else None
    for number in range(rounds + 1):
        for name in tasks if number % 2 else reversed(list(tasks)):
            if memory and number:
                anyio.run(_wait_until_fast, memory)
            else:
                time.sleep(pause_s)
            value = tasks[name]()
            if number:
                values[name].append(value)
    return values


async def _wait_until_fast(memory: MemoryProbe) -> None:
    await memory.measure_slowness()
    await memory.wait_until_fast(_MAX_SLOWNESS)


def divide(first: Figure, second: Figure) -> Figure:
    """Divide two figures round by round, so that what slowed down a whole round cancels out."""
    return Figure("times", tuple(a / b for a, b in zip(first.values, second.values, strict=True)))


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure what other programs use while the block runs; read `others_cores` of the meter afterwards."""
    meter = Meter((os.getpid(),))
    yield meter
    meter.stop()


def finish(
    name: str,
    title: str,
    figures: Mapping[str, Figure],
    checks: Checks,
    *,
    meter: Meter,
    smoke: bool,
    **settings: object,
) -> int:
    """Print the figures, write the result file `results/NAME.json` unless it was a smoke run, return the exit code.

    Args:
        name: Name of the result file.
        title: Title of the table.
        figures: What was measured, by name.
        checks: Goals, and whether each was met.
        meter: What other programs used meanwhile.
        smoke: Whether it was a smoke run; it always returns 0.
        settings: Stored with the result.

    Returns:
        1 if a goal was missed, else 0.
    """
    print_figures(title, figures, checks, meter.others_cores)
    if smoke:
        return 0
    write_figures(name, figures, checks, **settings, others_cores=meter.others_cores)
    return 0 if all(met for _, met in checks) else 1


def print_figures(title: str, figures: Mapping[str, Figure], checks: Checks, others_cores: float) -> None:
    """Print what was measured, and which goals were met."""
    table = Table("figure", "median", "from", "to", "unit", title=title)
    for name, figure in figures.items():
        low, high = min(figure.values), max(figure.values)
        table.add_row(name, f"{figure.median:.4g}", f"{low:.4g}", f"{high:.4g}", figure.unit)
    console = Console()
    console.print(table)
    console.print(f"Other programs used {others_cores:.2f} cores meanwhile.")
    for what, met in checks:
        console.print(f"{'met   ' if met else 'missed'}  {what}")


def write_figures(name: str, figures: Mapping[str, Figure], checks: Checks, **settings: object) -> None:
    """Write the result file `results/NAME.json`."""
    machine = describe_machine()
    content = {
        "machine": {
            "when": machine.when,
            "platform": machine.platform,
            "processor": machine.processor,
            "cores": machine.cores,
            "memory_bytes": machine.memory_bytes,
            "python": machine.python,
            "packages": machine.versions,
        },
        "figures": {
            title: {"median": figure.median, "unit": figure.unit, "values": figure.values}
            for title, figure in figures.items()
        },
        "checks": [{"what": what, "met": met} for what, met in checks],
        **settings,
    }
    RESULTS_FOLDER.mkdir(exist_ok=True)
    (RESULTS_FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


async def download_model(settings: Settings, model: str) -> Path:
    """Return the folder of a model, downloaded if need be."""
    async with open_engine(settings) as engine:
        return (await engine.download(model)).path
