"""The cells of a benchmark, the kinds of load that every target gets, and the measurement of one sample of a cell."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from msgspec import structs

from cupola_server.bench.client import TimedResponse, median_ttft_s, span_s, total_tokens
from cupola_server.bench.machine import EnergyCounter, MemoryProbe, Meter
from cupola_server.bench.prompts import Prompt, PromptFactory
from cupola_server.bench.results import CellResult, Plan, Sample, Times
from cupola_server.bench.statistics import Histogram
from cupola_server.bench.targets import Startup, Target

_MIN_DECODE_RESPONSES, _MIN_REQUESTS, _MIN_PREFILL_TOKENS = 6, 8, 512
_REQUEST_WAVES, _REPEATS = 4, 3
_WARM_UP_TOKENS = 8
_CELL_STRIDE, _TRY_STRIDE, _ROUND_STRIDE = 1_000, 100_000, 1_000_000
"""Distances between the prompt numbers of cells, tries and rounds, so that no prompt is used twice."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load.

    Attributes:
        kind: "decode", "prefill" (one token each), "requests" (many requests of one token) or "repeat" (one prompt
            several times).
        streams: Requests at a time.
        prompt_tokens: Length of each prompt.
        new_tokens: Length of each response.
        index: Position in the plan; separates its prompts from those of other cells.
    """

    kind: str
    streams: int
    prompt_tokens: int
    new_tokens: int
    index: int

    @property
    def waves(self) -> int:
        """Number of prompts that each stream sends one after the other.

        One response is too few: with speculation its speed depends on its text, and what takes a few milliseconds
        cannot be measured alone.
        """
        if self.kind == "decode":
            return math.ceil(_MIN_DECODE_RESPONSES / self.streams)
        if self.kind == "requests":
            return max(_REQUEST_WAVES, math.ceil(_MIN_REQUESTS / self.streams))
        return math.ceil(_MIN_PREFILL_TOKENS / self.prompt_tokens) if self.kind == "prefill" else 1

    def empty_result(self) -> CellResult:
        """Return its result before the first round."""
        return CellResult(self.kind, self.streams, self.prompt_tokens, self.new_tokens)


def plan_cells(plan: Plan) -> list[Cell]:
    """Return the cells of a plan in the order in which they are measured."""
    short, long = plan.prompt_tokens[0], plan.prompt_tokens[-1]
    loads = [("decode", streams, short, plan.new_tokens) for streams in plan.streams]
    loads += [("prefill", 1, tokens, 1) for tokens in plan.prompt_tokens]
    loads += [("requests", streams, short, 1) for streams in sorted({1, max(plan.streams)})]
    loads += [("repeat", 1, long, 1)]
    return [Cell(*load, index) for index, load in enumerate(loads)]


@dataclass(frozen=True, slots=True)
class RunningTarget:
    """A target that has been started, and the processes that send its requests."""

    target: Target
    startup: Startup
    clients: tuple[int, ...]


class CellMeasurer:
    """Measures samples of cells.

    Args:
        prompts: Makes the prompts.
        plan: Its bounds say what disturbance makes a sample be measured again.
        memory: Measures how fast memory is.
        max_tries: How often a disturbed sample is measured at most.
    """

    def __init__(self, prompts: PromptFactory, plan: Plan, memory: MemoryProbe, *, max_tries: int = 3) -> None:
        self._prompts, self._plan, self._memory = prompts, plan, memory
        self._max_tries = max_tries
        self._energy = EnergyCounter()

    async def add_sample(self, result: CellResult, cell: Cell, running: RunningTarget, round_number: int) -> CellResult:
        """Return the result with one more sample: the least disturbed of up to `max_tries`.

        Raises:
            CupolaError: The target failed.
        """
        best: tuple[Sample, list[TimedResponse]] | None = None
        for number in range(1, self._max_tries + 1):
            first = round_number * _ROUND_STRIDE + number * _TRY_STRIDE + cell.index * _CELL_STRIDE
            sample, responses = await self._measure(cell, running, first)
            if best is None or self._disturbance(sample) < self._disturbance(best[0]):
                best = structs.replace(sample, noisy=self._disturbance(sample) > 1), responses
            if not best[0].noisy:
                break
        assert best
        return _with_sample(result, structs.replace(best[0], tries=number), best[1])

    async def _make_prompts(self, cell: Cell, first: int) -> list[Prompt]:
        """Make the prompts of one sample, before the clock starts."""
        count = cell.streams * cell.waves
        prompts = [await self._prompts.prompt(first + number, cell.prompt_tokens) for number in range(count)]
        return prompts * _REPEATS if cell.kind == "repeat" else prompts

    async def _measure(self, cell: Cell, running: RunningTarget, first: int) -> tuple[Sample, list[TimedResponse]]:
        prompts = await self._make_prompts(cell, first)
        before = await self._memory.wait_until_fast(self._plan.slow_bound)
        startup = running.startup
        meter = Meter(startup.process_trees, startup.processes, running.clients, self._energy)
        streams = 1 if cell.kind == "repeat" else cell.streams
        responses = await generate_all(running.target, prompts, cell.new_tokens, streams)
        meter.stop()
        values = _values(cell, responses)
        if tokens := total_tokens(responses):
            if startup.process_trees:
                values["cpu_ms_per_token"] = 1000 * meter.cpu_s / tokens
            if meter.energy_j is not None:
                values["energy_j_per_token"] = meter.energy_j / tokens
        slowness = max(before, await self._memory.measure_slowness())
        times = _times(responses) if cell.kind == "decode" else Times()
        return Sample(values, meter.others_cores, slowness, times=times), responses

    def _disturbance(self, sample: Sample) -> float:
        """Return the disturbance of a sample as a share of what the plan allows; more than 1 is too much."""
        others = sample.others_cores / max(self._plan.noise_bound, 1e-9)
        return max(others, sample.slowness / self._plan.slow_bound)


async def generate_all(target: Target, prompts: Sequence[Prompt], new_tokens: int, streams: int) -> list[TimedResponse]:
    """Send all prompts, `streams` at a time; return the responses in the order of the prompts.

    Raises:
        CupolaError: A request failed; the others are cancelled.
    """
    responses: dict[int, TimedResponse] = {}
    waiting = iter(enumerate(prompts))

    async def send() -> None:
        for number, prompt in waiting:
            responses[number] = await target.generate(prompt, new_tokens)

    async with anyio.create_task_group() as group:
        for _ in range(streams):
            group.start_soon(send)
    return [responses[number] for number in sorted(responses)]


async def warm_up(target: Target, prompts: PromptFactory, plan: Plan, first: int) -> None:
    """Send requests that do not count: the longest prompt, then the most streams at a time of the plan.

    Args:
        target: A target that has been started.
        prompts: Makes the prompts.
        plan: What will be measured.
        first: Number of the first prompt.
    """
    await target.generate(await prompts.prompt(first, plan.prompt_tokens[-1]), 2)
    streams = min(max(plan.streams), target.max_streams or max(plan.streams))
    short = [await prompts.prompt(first + 1 + number, plan.prompt_tokens[0]) for number in range(streams)]
    await generate_all(target, short, _WARM_UP_TOKENS, streams)


def _values(cell: Cell, responses: Sequence[TimedResponse]) -> dict[str, float]:
    if cell.kind == "repeat":
        return {"again": median_ttft_s(responses[1:]) / responses[0].ttft_s}
    ttft_ms = 1000 * median_ttft_s(responses)
    if cell.kind == "prefill":
        speeds = [(response.prompt_tokens - response.cached_tokens) / response.ttft_s for response in responses]
        return {"prefill_per_s": statistics.median(speeds), "ttft_ms": ttft_ms}
    if cell.kind == "requests":
        return {"requests_per_s": len(responses) / span_s(responses), "ttft_ms": ttft_ms}
    values = {"total_per_s": total_tokens(responses) / span_s(responses), "ttft_ms": ttft_ms}
    if decode_per_s := statistics.median(response.decode_per_s for response in responses):
        values["decode_per_s"] = decode_per_s  # it is 0 if every response arrived in one piece
    return values


def _times(responses: Sequence[TimedResponse]) -> Times:
    return Times(
        Histogram.from_times(response.ttft_s for response in responses),
        Histogram.from_times(gap for response in responses for gap in response.gaps_s),
    )


def _with_sample(result: CellResult, sample: Sample, responses: Sequence[TimedResponse]) -> CellResult:
    return structs.replace(
        result,
        samples=(*result.samples, sample),
        asked_tokens=result.asked_tokens + len(responses) * result.new_tokens,
        got_tokens=result.got_tokens + total_tokens(responses),
    )
