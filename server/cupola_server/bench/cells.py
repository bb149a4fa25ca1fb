"""One measurement of one target: what is asked, and which values come of it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from msgspec import structs

from cupola_server.bench.client import Answer, median_ttft_s, span_s, tokens_of
from cupola_server.bench.machine import Energy, MemoryPace, Meter
from cupola_server.bench.prompts import Prompt, Prompts
from cupola_server.bench.results import CellResult, Plan, Sample, Times
from cupola_server.bench.statistics import Histogram
from cupola_server.bench.targets import Started, Target

_LEAST_ANSWERS, _LEAST_REQUESTS, _LEAST_PROMPT_TOKENS = 6, 8, 512
_WAVES, _REPEATS = 4, 3
_BLOCK, _TRY, _ROUND = 1_000, 100_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: so many answers at a time, of such prompts, so long.

    Attributes:
        kind: "decode", "prefill" (the first token alone), "requests" (many answers of one token) or "repeat" (a
            prompt asked again).
        index: Sets its prompts apart from those of the others.
    """

    kind: str
    streams: int
    prompt_tokens: int
    new_tokens: int
    index: int

    @property
    def waves(self) -> int:
        """How many prompts each client asks, one after the other.

        Few answers are too few: how fast one is depends on what it says, where a session guesses ahead; and what takes
        some milliseconds is measured badly by itself.
        """
        if self.kind == "decode":
            return math.ceil(_LEAST_ANSWERS / self.streams)
        if self.kind == "requests":
            return max(_WAVES, math.ceil(_LEAST_REQUESTS / self.streams))
        return math.ceil(_LEAST_PROMPT_TOKENS / self.prompt_tokens) if self.kind == "prefill" else 1

    def empty(self) -> CellResult:
        """Return its result before the first round."""
        return CellResult(self.kind, self.streams, self.prompt_tokens, self.new_tokens)


def cells_of(plan: Plan) -> list[Cell]:
    """Return what a plan asks to measure, of every target."""
    short, long = plan.prompt_tokens[0], plan.prompt_tokens[-1]
    wanted = [("decode", streams, short, plan.new_tokens) for streams in plan.streams]
    wanted += [("prefill", 1, tokens, 1) for tokens in plan.prompt_tokens]
    wanted += [("requests", streams, short, 1) for streams in sorted({1, max(plan.streams)})]
    wanted += [("repeat", 1, long, 1)]
    return [Cell(*each, index) for index, each in enumerate(wanted)]


@dataclass(frozen=True, slots=True)
class Opened:
    """A target that runs, and the processes that only ask."""

    target: Target
    started: Started
    clients: tuple[int, ...]


class Measurer:
    """Takes samples.

    Args:
        prompts: Where prompts come from.
        plan: Tells what may disturb a sample before it is taken again.
        pace: Tells how fast memory is.
        tries: How often it is taken at most.
    """

    def __init__(self, prompts: Prompts, plan: Plan, pace: MemoryPace, *, tries: int = 3) -> None:
        self._prompts, self._plan, self._pace = prompts, plan, pace
        self._tries = tries
        self._energy = Energy()

    async def add(self, result: CellResult, cell: Cell, opened: Opened, round_number: int) -> CellResult:
        """Take one sample and return the result with it: the quietest of a few, if something disturbs."""
        best: tuple[Sample, list[Answer]] | None = None
        for number in range(1, self._tries + 1):
            first = round_number * _ROUND + number * _TRY + cell.index * _BLOCK
            sample, answers = await self._sample(cell, opened, first)
            if best is None or self._disturbance(sample) < self._disturbance(best[0]):
                best = structs.replace(sample, noisy=self._disturbance(sample) > 1), answers
            if not best[0].noisy:
                break
        assert best
        return _with(result, structs.replace(best[0], tries=number), best[1])

    async def prompts(self, cell: Cell, first: int) -> list[Prompt]:
        """Make the prompts of one sample, before the clock runs."""
        count = cell.streams * cell.waves
        made = [await self._prompts.prompt(first + number, cell.prompt_tokens) for number in range(count)]
        return made * _REPEATS if cell.kind == "repeat" else made

    async def _sample(self, cell: Cell, opened: Opened, first: int) -> tuple[Sample, list[Answer]]:
        prompts = await self.prompts(cell, first)
        before = await self._pace.settle(self._plan.slow_bound)
        meter = Meter(opened.started.roots, opened.started.alone, opened.clients, self._energy)
        at_once = 1 if cell.kind == "repeat" else cell.streams
        answers = await ask_all(opened.target, prompts, cell.new_tokens, at_once)
        meter.stop()
        values = _values(cell, answers)
        if tokens := tokens_of(answers):
            if opened.started.roots:
                values["cpu_ms_per_token"] = 1000 * meter.cpu_s / tokens
            if meter.energy_j is not None:
                values["energy_j_per_token"] = meter.energy_j / tokens
        slowness = max(before, await self._pace.slowness())
        times = _times(answers) if cell.kind == "decode" else Times()
        return Sample(values, meter.others_cores, slowness, times=times), answers

    def _disturbance(self, sample: Sample) -> float:
        """Return how much of what is allowed a sample was disturbed; more than 1 is too much."""
        others = sample.others_cores / max(self._plan.noise_bound, 1e-9)
        return max(others, sample.slowness / self._plan.slow_bound)


async def ask_all(target: Target, prompts: Sequence[Prompt], new_tokens: int, at_once: int) -> list[Answer]:
    """Ask everything, so much at a time; the answers in the order of the prompts.

    Raises:
        CupolaError: One failed.
    """
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(prompts))

    async def client() -> None:
        for number, prompt in waiting:
            answers[number] = await target.ask(prompt, new_tokens)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(client)
    return [answers[number] for number in sorted(answers)]


async def warm_up(target: Target, prompts: Prompts, plan: Plan, number: int) -> None:
    """Ask what is not counted: the longest prompt, then as many at a time as there will ever be."""
    await target.ask(await prompts.prompt(number, plan.prompt_tokens[-1]), 2)
    at_once = min(max(plan.streams), target.streams_limit or max(plan.streams))
    asked = [await prompts.prompt(number + 1 + each, plan.prompt_tokens[0]) for each in range(at_once)]
    await ask_all(target, asked, 8, at_once)


def _values(cell: Cell, answers: Sequence[Answer]) -> dict[str, float]:
    if cell.kind == "repeat":
        return {"again": median_ttft_s(answers[1:]) / answers[0].ttft_s}
    ttft_ms = 1000 * median_ttft_s(answers)
    if cell.kind == "prefill":
        speeds = [(answer.prompt_tokens - answer.cached_tokens) / answer.ttft_s for answer in answers]
        return {"prefill_per_s": statistics.median(speeds), "ttft_ms": ttft_ms}
    if cell.kind == "requests":
        return {"requests_per_s": len(answers) / span_s(answers), "ttft_ms": ttft_ms}
    values = {"total_per_s": tokens_of(answers) / span_s(answers), "ttft_ms": ttft_ms}
    if decode_per_s := statistics.median(answer.decode_per_s for answer in answers):
        values["decode_per_s"] = decode_per_s  # else every answer came in one piece
    return values


def _times(answers: Sequence[Answer]) -> Times:
    return Times(
        Histogram.of(answer.ttft_s for answer in answers),
        Histogram.of(gap for answer in answers for gap in answer.gaps_s),
    )


def _with(result: CellResult, sample: Sample, answers: Sequence[Answer]) -> CellResult:
    return structs.replace(
        result,
        samples=(*result.samples, sample),
        asked_tokens=result.asked_tokens + len(answers) * result.new_tokens,
        got_tokens=result.got_tokens + tokens_of(answers),
    )
