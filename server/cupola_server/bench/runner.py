"""Runs the rounds of a benchmark: each starts every target, warms it up, measures all cells in turn, and stops it."""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from msgspec import structs

from cupola.contracts import Progress, ProgressEvent
from cupola.errors import CupolaError
from cupola_server.bench.cells import Cell, CellMeasurer, RunningTarget, plan_cells, warm_up
from cupola_server.bench.errors import unwrap_groups
from cupola_server.bench.machine import MemoryProbe, peak_bytes
from cupola_server.bench.prompts import PromptFactory
from cupola_server.bench.results import CellResult, Plan, Skipped, TargetResult
from cupola_server.bench.targets import Startup, Target

_WARM_UP_FIRST, _WARM_UP_ROUND_STRIDE, _WARM_UP_TARGET_STRIDE = 400_000_000, 10_000, 100
"""Prompt numbers of warm-ups, above those of all cells."""


@dataclass(slots=True)
class TargetRecord:
    """What has been measured of one target so far.

    Attributes:
        target: The target.
        cells: Results so far, in the order of the plan.
        startup: What it reported at its last start; None if it never started.
        load_s: Seconds until it was ready, for each round.
        peak_bytes: Peak memory of its processes, for each round.
    """

    target: Target
    cells: list[CellResult]
    startup: Startup | None = None
    load_s: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    def result(self) -> TargetResult:
        """Return it as it is stored; the target must have started at least once."""
        assert self.startup
        return TargetResult(
            name=self.target.name,
            title=self.target.title,
            model=self.target.model,
            versions=dict(self.startup.versions),
            settings=dict(self.startup.settings),
            note=self.target.note,
            load_s=tuple(self.load_s),
            peak_bytes=tuple(self.peak_bytes),
            cells=tuple(self.cells),
        )

    def stop_measuring(self, problem: str) -> None:
        """Measure no further cell of it; samples taken so far are kept."""
        self.cells = [structs.replace(cell, problem=cell.problem or problem) for cell in self.cells]


@dataclass(slots=True)
class Runner:
    """Runs rounds over all targets.

    Attributes:
        targets: What is compared.
        plan: What is measured.
        prompts: Makes the prompts.
        memory: Measures how fast memory is.
        clients: Ids of the processes that send the requests.
        progress: Called with the progress.
        first_round: Number of rounds that earlier runs measured, so that no prompt is used twice.
        skipped: Targets that never started, and why.
    """

    targets: Sequence[Target]
    plan: Plan
    prompts: PromptFactory
    memory: MemoryProbe
    clients: tuple[int, ...]
    progress: Progress
    first_round: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    _records: list[TargetRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        cells = plan_cells(self.plan)
        self._records = [TargetRecord(target, [cell.empty_result() for cell in cells]) for target in self.targets]

    async def run(self, rounds: int, budget_s: float, began_at: float) -> int:
        """Measure all cells of all targets in every round, interleaved, in reversed order in every other.

        Each round restarts every target, because the speed of a process differs from one start to the next. No
        round is started that would not end within the budget, except for the first. A target that fails keeps the
        samples it has.

        Args:
            rounds: Number of rounds.
            budget_s: Seconds from `began_at` for everything; 0 for no limit.
            began_at: Start of the whole benchmark on the clock of `time.monotonic`.

        Returns:
            The number of rounds that were measured.
        """
        measurer = CellMeasurer(self.prompts, self.plan, self.memory)
        longest_s = 0.0
        for number in range(rounds):
            started = time.monotonic()
            if number and budget_s and started - began_at + longest_s > budget_s:
                return number
            async with AsyncExitStack() as stack:
                started_targets = await self._start_all(stack, self.first_round + number)
                await self._measure_cells(measurer, started_targets, number, rounds)
                for record, running in started_targets:
                    if memory := peak_bytes(running.startup.process_trees, running.startup.processes):
                        record.peak_bytes.append(memory)
            longest_s = max(longest_s, time.monotonic() - started)
        return rounds

    def results(self) -> list[TargetResult]:
        """Return the results of all targets that started at least once."""
        return [record.result() for record in self._records if record.startup]

    async def _start_all(self, stack: AsyncExitStack, number: int) -> list[tuple[TargetRecord, RunningTarget]]:
        """Start and warm up every target that can be started; the stack stops them."""
        started = []
        for index, record in enumerate(self._records):
            self._report_progress(f"start round {number + 1}", index, len(self._records), "targets")
            first_prompt = _WARM_UP_FIRST + number * _WARM_UP_ROUND_STRIDE + index * _WARM_UP_TARGET_STRIDE
            if running := await self._start(stack, record, first_prompt):
                started.append((record, running))
        return started

    async def _start(self, stack: AsyncExitStack, record: TargetRecord, first_prompt: int) -> RunningTarget | None:
        """Start one target in a stack of its own, so that a target that fails to warm up is stopped at once."""
        if all(cell.problem for cell in record.cells):
            return None
        target = record.target
        async with AsyncExitStack() as own_stack:
            try:
                with unwrap_groups():
                    startup = await own_stack.enter_async_context(target.open())
                    await warm_up(target, self.prompts, self.plan, first_prompt)
            except CupolaError as error:
                if record.startup is None:
                    self.skipped.append(Skipped(target.name, str(error)))
                record.stop_measuring(str(error))
                return None
            stack.push_async_exit(own_stack.pop_all().__aexit__)
        record.startup = startup
        if startup.process_trees:
            record.load_s.append(startup.load_s)
        return RunningTarget(target, startup, self.clients)

    async def _measure_cells(
        self, measurer: CellMeasurer, started: Sequence[tuple[TargetRecord, RunningTarget]], number: int, rounds: int
    ) -> None:
        cells = plan_cells(self.plan)
        in_turn = started if number % 2 else [*reversed(started)]
        for index, cell in enumerate(cells):
            for place, (record, running) in enumerate(in_turn):
                done = (number * len(cells) + index) * len(started) + place
                self._report_progress("measure", done, rounds * len(cells) * len(started), "measurements")
                result = record.cells[index]
                limit = running.target.max_streams
                if limit and cell.streams > limit:
                    record.cells[index] = structs.replace(result, problem=f"it handles only {limit} at a time")
                elif not result.problem:
                    record.cells[index] = await _add_sample(measurer, result, running, cell, self.first_round + number)

    def _report_progress(self, phase: str, done: int, total: int, unit: str) -> None:
        self.progress(ProgressEvent(phase, done, total, unit))


async def _add_sample(
    measurer: CellMeasurer, result: CellResult, running: RunningTarget, cell: Cell, number: int
) -> CellResult:
    """Measure one sample; if the target fails, return the samples so far with the problem."""
    try:
        with unwrap_groups():
            return await measurer.add_sample(result, cell, running, number)
    except CupolaError as error:
        return structs.replace(result, problem=str(error))
