"""How cost grows with the length of a prompt, with the number of streams, and with the number of loaded models."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from cupola.contracts import CachedModel, CacheStore, ModelInfo
from cupola.engine import Engine
from cupola.errors import CupolaError
from cupola_server.bench.cells import generate_all
from cupola_server.bench.client import TimedResponse, median_ttft_s, span_s, total_tokens
from cupola_server.bench.errors import unwrap_groups
from cupola_server.bench.models import Launcher
from cupola_server.bench.prompts import Prompt, PromptFactory
from cupola_server.bench.results import Curve, Point
from cupola_server.bench.statistics import Figure, fit_power_law
from cupola_server.bench.targets import EngineTarget, Target

PROMPT_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
STREAMS = (1, 2, 4, 8, 16, 32)
RESIDENTS = (1, 2, 3, 4, 6, 8)
_NEW_TOKENS = 24
_FIRST_PROMPT, _STREAMS_STRIDE, _RESIDENTS_OFFSET = 500_000_000, 1000, 900_000
"""Prompt numbers of curves, above those of cells and warm-ups."""

PointMeasurement = Callable[[int, int], Awaitable[dict[str, float]]]
"""Measures at one x and returns values by name; the second argument is a number that differs in every call."""


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """How the points of a curve are measured.

    Attributes:
        rounds: Number of values for each point.
        wait_until_fast: Awaited before each value; waits until neighbors no longer slow down memory.
        report_progress: Called with the number of finished values and of all values.
    """

    rounds: int
    wait_until_fast: Callable[[], Awaitable[None]]
    report_progress: Callable[[int, int], None]


@dataclass(slots=True)
class Sweep:
    """Values measured at every x.

    Attributes:
        over: What x is, as in `Curve.over`.
        units: Unit of each measured quantity, by name.
        target: Title of the target.
        values: Measured values by name and x, in the order of the rounds.
        problem: Why it stopped at some x.
    """

    over: str
    units: dict[str, str]
    target: str
    values: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    problem: str = ""

    async def run(self, xs: Sequence[int], options: SweepOptions, measure: PointMeasurement) -> None:
        """Measure at every x in turn, round by round; after a failure that x and larger ones are left out."""
        xs = list(xs)
        for number in range(options.rounds):
            for index, x in enumerate(list(xs)):
                options.report_progress(number * len(xs) + index, options.rounds * len(xs))
                await options.wait_until_fast()
                try:
                    with unwrap_groups():
                        values = await measure(x, number * 100 + index)
                except CupolaError as error:
                    self.problem = f"at {x} {self.over}: {error}"
                    xs = xs[:index]
                    break
                for what, value in values.items():
                    self.values.setdefault(what, {}).setdefault(x, []).append(value)

    def curves(self) -> list[Curve]:
        """Return a fitted curve for every measured quantity."""
        curves = []
        for what, by_x in self.values.items():
            points = [Point(x, Figure(self.units[what], tuple(by_x[x]))) for x in sorted(by_x)]
            growth = fit_power_law([(point.x, max(point.figure.median, 1e-9)) for point in points])
            curves.append(Curve(self.over, what, self.target, tuple(points), *growth, problem=self.problem))
        return curves


async def sweep_prompt_tokens(
    target: Target, prompts: PromptFactory, bounds: tuple[int, int], options: SweepOptions
) -> Sweep:
    """Measure the times of the first and of further tokens over prompt lengths between two bounds in tokens."""
    units = {"time to first token": "ms", "time per further token": "ms"}
    sweep = Sweep("prompt tokens", units, target.title)

    async def measure(tokens: int, number: int) -> dict[str, float]:
        response = await target.generate(await prompts.prompt(_FIRST_PROMPT + number, tokens), _NEW_TOKENS)
        return {"time to first token": 1000 * response.ttft_s} | _time_per_token(response)

    shortest, longest = bounds
    lengths = {min(max(tokens, shortest), longest - _NEW_TOKENS - 8) for tokens in PROMPT_TOKENS}
    await sweep.run(sorted(lengths), options, measure)
    return sweep


async def sweep_streams(target: Target, prompts: PromptFactory, tokens: int, options: SweepOptions) -> Sweep:
    """Measure throughput and time to first token over the number of concurrent requests."""
    units = {"tokens per second of all": "tokens/s", "time to first token": "ms"}
    sweep = Sweep("streams", units, target.title)

    async def measure(streams: int, number: int) -> dict[str, float]:
        first = _FIRST_PROMPT + _STREAMS_STRIDE * (number + 1)
        batch = [await prompts.prompt(first + stream, tokens) for stream in range(streams)]
        responses = await generate_all(target, batch, _NEW_TOKENS, streams)
        speed = total_tokens(responses) / span_s(responses)
        return {"tokens per second of all": speed, "time to first token": 1000 * median_ttft_s(responses)}

    await sweep.run(STREAMS, options, measure)
    return sweep


async def sweep_residents(
    residents: "ResidentCopies", prompts: PromptFactory, tokens: int, options: SweepOptions
) -> Sweep:
    """Measure the memory of all loaded models and the speed of one over the number of loaded models."""
    units = {"memory": "MB", "time per further token": "ms"}
    sweep = Sweep("resident models", units, "in process")

    async def measure(count: int, number: int) -> dict[str, float]:
        await residents.load(count)
        prompt = await prompts.prompt(_FIRST_PROMPT + _RESIDENTS_OFFSET + number, tokens)
        response = await residents.generate(prompt, _NEW_TOKENS)
        return {"memory": residents.memory_bytes() / 1e6} | _time_per_token(response)

    await sweep.run(RESIDENTS, options, measure)
    return sweep


class ResidentCopies:
    """Copies of one model in an engine, of which a given number is loaded."""

    def __init__(self, engine: Engine, copies: list[str]) -> None:
        self._engine, self._copies = engine, copies
        self._first = EngineTarget("first", "first", copies[0], lambda: nullcontext(engine))
        self._first.engine = engine

    async def load(self, count: int) -> None:
        """Load the first `count` copies and unload the others."""
        for model in self._copies[count:]:
            await self._engine.unload(model)
        for model in self._copies[:count]:
            await self._engine.load(model, ttl_s=0)

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Run one turn on the first copy."""
        return await self._first.generate(prompt, new_tokens)

    def memory_bytes(self) -> int:
        """Return the memory that the workers of all loaded copies take now."""
        return sum(status.memory_bytes for status in self._engine.residents())


@asynccontextmanager
async def open_copies(launcher: Launcher, model: CachedModel, count: int) -> AsyncIterator[ResidentCopies]:
    """Open an engine over a temporary cache with `count` copies of a model, hard links where possible."""
    folder_of_cache = model.path.parent if os.access(model.path.parent, os.W_OK) else None  # the same file system
    with tempfile.TemporaryDirectory(prefix="cupola-bench-", dir=folder_of_cache) as folder:
        async with launcher.open_engine(f"cache.dir={folder}", "models.memory_budget_mb=1000000") as engine:
            copies = [_copy_info(model.info, number) for number in range(count)]
            for info in copies:
                await _copy_files(engine.cache, model, info)
            yield ResidentCopies(engine, [info.id for info in copies])


async def _copy_files(cache: CacheStore, model: CachedModel, info: ModelInfo) -> None:
    async with await cache.reserve(info) as staging:
        for path in model.path.iterdir():
            if path.is_file() and not path.name.startswith("cupola."):
                _link_or_copy(path, staging.path / path.name)
        await staging.commit()


def _copy_info(info: ModelInfo, number: int) -> ModelInfo:
    return structs.replace(info, id=f"benchmark-copy-{number}:1", alias=f"benchmark-copy-{number}", parent=info.id)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _time_per_token(response: TimedResponse) -> dict[str, float]:
    """Return the time per token after the first one; nothing if the response arrived in one piece."""
    return {"time per further token": 1000 / response.decode_per_s} if response.decode_per_s else {}
