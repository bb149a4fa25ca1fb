"""How cost grows with the length of a prompt, with the number of streams, and with the number of loaded models."""

import os
import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from cupola.contracts import CachedModel, CacheStore, ModelInfo
from cupola.engine import Engine
from cupola.errors import CupolaError
from cupola_server.bench.cells import ask_all
from cupola_server.bench.client import Answer, span_s, tokens_of
from cupola_server.bench.errors import plain_errors
from cupola_server.bench.models import Host
from cupola_server.bench.prompts import Prompt, Prompts
from cupola_server.bench.results import Curve, Point
from cupola_server.bench.statistics import Figure, fit
from cupola_server.bench.targets import EngineTarget, Target

PROMPT_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
STREAMS = (1, 2, 4, 8, 16, 32)
RESIDENTS = (1, 2, 3, 4, 6, 8)
_NEW_TOKENS = 24
_FIRST = 500_000_000

Sample = Callable[[int, int], Awaitable[dict[str, float]]]
"""Measures at one x; the second number is different for every call."""


class Residents:
    """Copies of a model, loaded as far as one asks for."""

    def __init__(self, engine: Engine, copies: list[str]) -> None:
        self._engine, self._copies = engine, copies
        self._first = EngineTarget("first", "first", copies[0], lambda: nullcontext(engine))
        self._first.engine = engine

    async def keep(self, count: int) -> None:
        """Have so many loaded, and no more."""
        for model in self._copies[count:]:
            await self._engine.unload(model)
        for model in self._copies[:count]:
            await self._engine.load(model, ttl_s=0)

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask the first one."""
        return await self._first.ask(prompt, new_tokens)

    def memory_bytes(self) -> int:
        """Return what the workers of all of them take now."""
        return sum(status.memory_bytes for status in self._engine.residents())


@dataclass(frozen=True, slots=True)
class Course:
    """How a growth is measured.

    Attributes:
        rounds: How often each point is taken.
        settled: Waits until nothing slows the machine down.
        told: Is told how many points of how many are done.
    """

    rounds: int
    settled: Callable[[], Awaitable[None]]
    told: Callable[[int, int], None]


@dataclass(slots=True)
class Sweep:
    """Values found at every x, by what was measured.

    Attributes:
        over: What x is.
        units: Of what is measured.
        target: Who was measured.
    """

    over: str
    units: dict[str, str]
    target: str
    values: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    problem: str = ""

    async def run(self, xs: Sequence[int], course: Course, sample: Sample) -> None:
        """Measure at every x in turn, round by round; stops growing where a sample fails."""
        xs = list(xs)
        for number in range(course.rounds):
            for index, x in enumerate(list(xs)):
                course.told(number * len(xs) + index, course.rounds * len(xs))
                await course.settled()
                try:
                    with plain_errors():
                        found = await sample(x, number * 100 + index)
                except CupolaError as error:
                    self.problem = f"at {x} {self.over}: {error}"
                    xs = xs[:index]
                    break
                for what, value in found.items():
                    self.values.setdefault(what, {}).setdefault(x, []).append(value)

    def curves(self) -> list[Curve]:
        """Return a fitted curve for everything that was measured."""
        found = []
        for what, by_x in self.values.items():
            points = [Point(x, Figure(self.units[what], tuple(by_x[x]))) for x in sorted(by_x)]
            growth = fit([(point.x, max(point.figure.median, 1e-9)) for point in points])
            found.append(Curve(self.over, what, self.target, tuple(points), *growth, problem=self.problem))
        return found


async def over_prompts(target: Target, prompts: Prompts, bounds: tuple[int, int], course: Course) -> Sweep:
    """Measure the first token and the following ones behind ever longer prompts, between two bounds in tokens."""
    units = {"time to first token": "ms", "time per further token": "ms"}
    sweep = Sweep("prompt tokens", units, target.title)

    async def sample(tokens: int, number: int) -> dict[str, float]:
        answer = await target.ask(await prompts.prompt(_FIRST + number, tokens), _NEW_TOKENS)
        return {"time to first token": 1000 * answer.ttft_s} | _further(answer)

    shortest, longest = bounds
    lengths = {min(max(tokens, shortest), longest - _NEW_TOKENS - 8) for tokens in PROMPT_TOKENS}
    await sweep.run(sorted(lengths), course, sample)
    return sweep


async def over_streams(target: Target, prompts: Prompts, tokens: int, course: Course) -> Sweep:
    """Measure ever more answers at a time."""
    units = {"tokens per second of all": "tokens/s", "time to first token": "ms"}
    sweep = Sweep("streams", units, target.title)

    async def sample(streams: int, number: int) -> dict[str, float]:
        asked = [await prompts.prompt(_FIRST + 1000 * (number + 1) + each, tokens) for each in range(streams)]
        answers = await ask_all(target, asked, _NEW_TOKENS, streams)
        ttft_ms = 1000 * statistics.median(answer.ttft_s for answer in answers)
        return {"tokens per second of all": tokens_of(answers) / span_s(answers), "time to first token": ttft_ms}

    await sweep.run(STREAMS, course, sample)
    return sweep


async def over_residents(residents: Residents, prompts: Prompts, tokens: int, course: Course) -> Sweep:
    """Measure memory, and the speed of one, with ever more models loaded."""
    units = {"memory": "MB", "time per further token": "ms"}
    sweep = Sweep("resident models", units, "in process")

    async def sample(count: int, number: int) -> dict[str, float]:
        await residents.keep(count)
        answer = await residents.ask(await prompts.prompt(_FIRST + 900_000 + number, tokens), _NEW_TOKENS)
        found = {"memory": residents.memory_bytes() / 1e6}
        return found | _further(answer)

    await sweep.run(RESIDENTS, course, sample)
    return sweep


def _further(answer: Answer) -> dict[str, float]:
    """Return the time per token after the first one; nothing if the answer came in one piece."""
    return {"time per further token": 1000 / answer.decode_per_s} if answer.decode_per_s else {}


@asynccontextmanager
async def residents_of(host: Host, model: CachedModel, count: int) -> AsyncIterator[Residents]:
    """Make copies of a model, linked where the file system can, and open an engine over them."""
    with tempfile.TemporaryDirectory(prefix="cupola-bench-", dir=_beside(model.path)) as folder:
        async with host.open_engine(f"cache.dir={folder}", "models.memory_budget_mb=1000000") as engine:
            copies = [_named(model.info, number) for number in range(count)]
            for info in copies:
                await _copy(engine.cache, model, info)
            yield Residents(engine, [info.id for info in copies])


async def _copy(cache: CacheStore, model: CachedModel, info: ModelInfo) -> None:
    async with await cache.reserve(info) as staging:
        for path in model.path.iterdir():
            if path.is_file() and not path.name.startswith("cupola."):
                _link(path, staging.path / path.name)
        await staging.commit()


def _named(info: ModelInfo, number: int) -> ModelInfo:
    return structs.replace(info, id=f"benchmark-copy-{number}:1", alias=f"benchmark-copy-{number}", parent=info.id)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _beside(path: Path) -> Path | None:
    """Return a folder of the same file system to write into, if that may be done."""
    return path.parent if os.access(path.parent, os.W_OK) else None
