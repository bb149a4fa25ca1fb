"""A whole run: round after round it starts everything, warms it up, measures it in turn, and stops it."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from msgspec import structs

from cupola.contracts import ProgressEvent
from cupola.errors import CupolaError
from cupola_server.bench.cells import Cell, Measurer, Opened, cells_of, warm_up
from cupola_server.bench.errors import plain_errors
from cupola_server.bench.machine import MemoryPace, peak_bytes
from cupola_server.bench.prompts import Prompts
from cupola_server.bench.results import CellResult, Plan, Skipped, TargetResult
from cupola_server.bench.targets import Started, Target

Progress = Callable[[ProgressEvent], None]
_WARM, _WARM_ROUND = 400_000_000, 10_000


@dataclass(slots=True)
class Findings:
    """What was found of one target so far; `started` is what it told when it last started."""

    target: Target
    cells: list[CellResult]
    started: Started | None = None
    load_s: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    def result(self) -> TargetResult:
        """Return it as it is stored."""
        assert self.started
        return TargetResult(
            name=self.target.name,
            title=self.target.title,
            model=self.target.model,
            versions=dict(self.started.versions),
            settings=dict(self.started.settings),
            note=self.target.note,
            load_s=tuple(self.load_s),
            peak_bytes=tuple(self.peak_bytes),
            cells=tuple(self.cells),
        )

    def give_up(self, problem: str) -> None:
        """Ask no more of it; what was found stays."""
        self.cells = [structs.replace(cell, problem=cell.problem or problem) for cell in self.cells]


@dataclass(slots=True)
class Run:
    """One piece of a comparison.

    Attributes:
        targets: What is compared.
        plan: What is measured.
        prompts: Where prompts come from.
        pace: Tells how fast memory is.
        clients: Processes that only ask.
        progress: Is told how far it is.
        first_round: Number of rounds that earlier pieces took, so that no prompt comes twice.
        skipped: What could not be started, and why.
    """

    targets: Sequence[Target]
    plan: Plan
    prompts: Prompts
    pace: MemoryPace
    clients: tuple[int, ...]
    progress: Progress
    first_round: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    _found: list[Findings] = field(default_factory=list)

    def __post_init__(self) -> None:
        cells = cells_of(self.plan)
        self._found = [Findings(target, [cell.empty() for cell in cells]) for target in self.targets]

    async def rounds(self, count: int, budget_s: float, began_at: float) -> int:
        """Measure everything so many times, interleaved; the other way round in every other round.

        Every round starts every target anew, since how fast a process is differs from one start to the next. Stops
        early when another round would not end within the budget; the first one is always taken.

        Args:
            count: Rounds.
            budget_s: Seconds since `began_at` for everything; 0 for no limit.
            began_at: When the whole run began, on the clock of `time.monotonic`.

        Returns:
            How many rounds were taken.
        """
        measurer = Measurer(self.prompts, self.plan, self.pace)
        longest_s = 0.0
        for number in range(count):
            started = time.monotonic()
            if number and budget_s and started - began_at + longest_s > budget_s:
                return number
            async with AsyncExitStack() as stack:
                opened = await self._open_all(stack, self.first_round + number)
                await self._measure(measurer, opened, number, count)
                for findings, one in opened:
                    if memory := peak_bytes(one.started.roots, one.started.alone):
                        findings.peak_bytes.append(memory)
            longest_s = max(longest_s, time.monotonic() - started)
        return count

    def results(self) -> list[TargetResult]:
        """Return what was found, of every target that ever started."""
        return [findings.result() for findings in self._found if findings.started]

    async def _open_all(self, stack: AsyncExitStack, number: int) -> list[tuple[Findings, Opened]]:
        """Start every target that can be started, and warm it up; they stop with the stack."""
        opened = []
        for index, findings in enumerate(self._found):
            self._tell(f"start round {number + 1}", index, len(self._found), "targets")
            first_prompt = _WARM + number * _WARM_ROUND + index * 100
            if one := await self._open(stack, findings, first_prompt):
                opened.append((findings, one))
        return opened

    async def _open(self, stack: AsyncExitStack, findings: Findings, first_prompt: int) -> Opened | None:
        """Start one target in a stack of its own, so that one that fails is stopped at once."""
        if all(cell.problem for cell in findings.cells):
            return None
        target = findings.target
        async with AsyncExitStack() as own:
            try:
                with plain_errors():
                    started = await own.enter_async_context(target.open())
                    await warm_up(target, self.prompts, self.plan, first_prompt)
            except CupolaError as error:
                if findings.started is None:
                    self.skipped.append(Skipped(target.name, str(error)))
                findings.give_up(str(error))
                return None
            stack.push_async_exit(own.pop_all().__aexit__)
        findings.started = started
        if started.roots:
            findings.load_s.append(started.load_s)
        return Opened(target, started, self.clients)

    async def _measure(
        self, measurer: Measurer, opened: Sequence[tuple[Findings, Opened]], number: int, count: int
    ) -> None:
        cells = cells_of(self.plan)
        in_turn = opened if number % 2 else [*reversed(opened)]
        for index, cell in enumerate(cells):
            for place, (findings, one) in enumerate(in_turn):
                done = (number * len(cells) + index) * len(opened) + place
                self._tell("measure", done, count * len(cells) * len(opened), "measurements")
                result = findings.cells[index]
                limit = one.target.streams_limit
                if limit and cell.streams > limit:
                    findings.cells[index] = structs.replace(result, problem=f"it answers {limit} at a time")
                elif not result.problem:
                    findings.cells[index] = await _added(measurer, result, one, cell, self.first_round + number)

    def _tell(self, phase: str, done: int, total: int, unit: str) -> None:
        self.progress(ProgressEvent(phase, done, total, unit))


async def _added(measurer: Measurer, result: CellResult, opened: Opened, cell: Cell, number: int) -> CellResult:
    """Take one sample. A target that fails keeps what it has, and is not asked that again."""
    try:
        with plain_errors():
            return await measurer.add(result, cell, opened, number)
    except CupolaError as error:
        return structs.replace(result, problem=str(error))
