"""A whole run: opens everything, warms it up, goes round after round, and closes it."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from msgspec import structs

from cupola.contracts import ProgressEvent
from cupola.errors import CupolaError
from cupola_server.bench.failing import plain_errors
from cupola_server.bench.measuring import Cell, Measurer, Opened, cells_of, warm_up
from cupola_server.bench.noise import peak_bytes
from cupola_server.bench.prompts import Prompts
from cupola_server.bench.results import CellResult, Plan, Skipped, TargetResult
from cupola_server.bench.targets import Target

Progress = Callable[[ProgressEvent], None]
_WARM = 900_000


@dataclass(slots=True)
class Measured:
    """One target while it runs, with what was found so far."""

    opened: Opened
    cells: list[CellResult]


@dataclass(slots=True)
class Run:
    """One piece of a comparison.

    Attributes:
        targets: What is compared.
        plan: What is measured.
        prompts: Where prompts come from.
        clients: Processes that only ask.
        progress: Is told how far it is.
        first_round: Number of rounds that earlier pieces took, so that no prompt comes twice.
    """

    targets: Sequence[Target]
    plan: Plan
    prompts: Prompts
    clients: tuple[int, ...]
    progress: Progress
    first_round: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    measured: list[Measured] = field(default_factory=list)
    _done: int = 0

    async def __aenter__(self) -> "Run":
        """Start every target that can be started, and warm it up; the others are skipped with their reason."""
        await self._stack.__aenter__()
        try:
            for number, target in enumerate(self.targets):
                self._tell("start", number, len(self.targets), "targets")
                await self._open(target, number)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop them all."""
        await self._stack.aclose()

    async def rounds(self, count: int, budget_s: float, began_at: float) -> int:
        """Measure everything so many times, interleaved; the other way round in every other round.

        Stops early when another round would not end within the budget; the first one is always taken.

        Args:
            count: Rounds.
            budget_s: Seconds since `began_at` for everything; 0 for no limit.
            began_at: When the whole run began, on the clock of `time.monotonic`.

        Returns:
            How many rounds were taken.
        """
        cells = cells_of(self.plan)
        measurer = Measurer(self.prompts, noise_bound=self.plan.noise_bound)
        longest_s = 0.0
        for number in range(count):
            started = time.monotonic()
            if number and budget_s and started - began_at + longest_s > budget_s:
                return number
            for index, cell in enumerate(cells):
                for measured in self.measured if number % 2 else reversed(self.measured):
                    total = count * len(cells) * len(self.measured)
                    self._tell("measure", self._done, total, "measurements")
                    await self._add(measurer, measured, index, cell, self.first_round + number)
                    self._done += 1
            longest_s = max(longest_s, time.monotonic() - started)
        return count

    def results(self) -> list[TargetResult]:
        """Return what was found, with the memory that was taken until now."""
        found = []
        for measured in self.measured:
            target, started = measured.opened.target, measured.opened.started
            memory = peak_bytes(started.roots, started.alone)
            found.append(
                TargetResult(
                    name=target.name,
                    title=target.title,
                    model=target.model,
                    versions=dict(started.versions),
                    settings=dict(started.settings),
                    note=target.note,
                    load_s=(started.load_s,) if started.roots else (),
                    peak_bytes=(memory,) if memory else (),
                    cells=tuple(measured.cells),
                )
            )
        return found

    async def _open(self, target: Target, number: int) -> None:
        """Start one target in a stack of its own, so that one that fails is stopped at once."""
        async with AsyncExitStack() as own:
            try:
                with plain_errors():
                    started = await own.enter_async_context(target.open())
                    await warm_up(target, self.prompts, self.plan, _WARM + 100 * number)
            except CupolaError as error:
                self.skipped.append(Skipped(target.name, str(error)))
                return
            self._stack.push_async_exit(own.pop_all().__aexit__)
            opened = Opened(target, started, self.clients)
            self.measured.append(Measured(opened, [cell.empty() for cell in cells_of(self.plan)]))

    async def _add(self, measurer: Measurer, measured: Measured, index: int, cell: Cell, number: int) -> None:
        """Take one sample. A target that fails keeps what it has, and is not asked that again."""
        result = measured.cells[index]
        limit = measured.opened.target.streams_limit
        if result.problem:
            return
        if limit and cell.streams > limit:
            measured.cells[index] = structs.replace(result, problem=f"it answers {limit} at a time")
            return
        try:
            with plain_errors():
                measured.cells[index] = await measurer.add(result, cell, measured.opened, number)
        except CupolaError as error:
            measured.cells[index] = structs.replace(result, problem=str(error))

    def _tell(self, phase: str, done: int, total: int, unit: str) -> None:
        self.progress(ProgressEvent(phase, done, total, unit))
