"""Rounds over targets that respond at once: the order of starts and measurements, and failures."""

import time
from contextlib import asynccontextmanager

import pytest

from cupola_server.bench.client import TimedResponse
from cupola_server.bench.errors import TargetError
from cupola_server.bench.machine import MemoryProbe
from cupola_server.bench.prompts import PromptFactory
from cupola_server.bench.results import Plan
from cupola_server.bench.runner import Runner
from cupola_server.bench.targets import Startup, Target

pytestmark = pytest.mark.anyio
PLAN = Plan(models=("m:1",), streams=(1, 2), prompt_tokens=(64, 128), new_tokens=4, noise_bound=99.0, slow_bound=99.0)


class Instant(Target):
    """Responds at once; appends to a shared log when it starts, responds and stops."""

    def __init__(self, name, log, fails_at=None):
        self.name = self.title = name
        self.model, self._log, self._fails_at, self._starts = "m:1", log, fails_at, 0

    @asynccontextmanager
    async def open(self):
        if self._starts == self._fails_at:
            raise TargetError(name=self.name, detail="it failed to start")
        self._starts += 1
        self._log.append(("start", self.name))
        try:
            yield Startup(0.5, (), settings={"start": str(self._starts)})
        finally:
            self._log.append(("stop", self.name))

    async def generate(self, prompt, new_tokens):
        self._log.append(("generate", self.name))
        now = time.perf_counter()
        return TimedResponse(now, [now + 0.001 * (1 + n) for n in range(new_tokens)], now + 0.01, 64, new_tokens)


async def tokenize(prompt):
    return "".join(message.content for message in prompt.messages).split()


async def run(targets, rounds=3, **options):
    found = Runner(
        targets, PLAN, PromptFactory(tokenize), MemoryProbe(lambda: 1.0, 0.0), (), lambda event: None, **options
    )
    assert await found.run(rounds, 0.0, time.monotonic()) == rounds
    return found


async def test_every_round_restarts_all_targets_and_measures_them_in_turn():
    log = []
    found = await run([Instant("a", log), Instant("b", log)])
    starts = [entry for entry in log if entry[0] != "generate"]
    assert starts == [("start", "a"), ("start", "b"), ("stop", "b"), ("stop", "a")] * 3
    for result in found.results():
        assert [len(cell.samples) for cell in result.cells] == [3] * 7
        assert result.settings == {"start": "3"}
    first = log[: log.index(("stop", "b"))]
    turns = [name for (_, name), (_, before) in zip(first, [("", ""), *first], strict=False) if name != before]
    assert len(turns) >= 2 + 7  # warm-up, then cell after cell


async def test_a_target_that_never_starts_is_skipped_and_one_that_fails_later_keeps_its_samples():
    found = await run([Instant("a", []), Instant("never", [], fails_at=0), Instant("later", [], fails_at=2)])
    a, later = found.results()
    assert (a.name, later.name) == ("a", "later")
    assert [len(cell.samples) for cell in later.cells] == [2] * 7
    assert {cell.problem for cell in later.cells} == {"later cannot be measured: it failed to start"}
    (skipped,) = found.skipped
    assert (skipped.name, skipped.reason) == ("never", "never cannot be measured: it failed to start")


async def test_a_budget_ends_the_rounds_after_the_first_at_the_earliest():
    found = Runner(
        [Instant("a", [])], PLAN, PromptFactory(tokenize), MemoryProbe(lambda: 1.0, 0.0), (), lambda event: None
    )
    assert await found.run(5, 0.001, time.monotonic()) == 1
