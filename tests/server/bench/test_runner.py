"""Rounds over targets that answer at once: what starts when, and what a failure costs."""

import time
from contextlib import asynccontextmanager

import pytest

from cupola_server.bench.client import Answer
from cupola_server.bench.errors import PeerError
from cupola_server.bench.machine import MemoryPace
from cupola_server.bench.prompts import Prompts
from cupola_server.bench.results import Plan
from cupola_server.bench.runner import Run
from cupola_server.bench.targets import Started, Target

pytestmark = pytest.mark.anyio
PLAN = Plan(models=("m:1",), streams=(1, 2), prompt_tokens=(64, 128), new_tokens=4, noise_bound=99.0, slow_bound=99.0)


class Instant(Target):
    """Answers at once; notes in a shared log when it starts, answers and stops."""

    def __init__(self, name, log, fails_at=None):
        self.name = self.title = name
        self.model, self._log, self._fails_at, self._starts = "m:1", log, fails_at, 0

    @asynccontextmanager
    async def open(self):
        if self._starts == self._fails_at:
            raise PeerError(name=self.name, detail="it has had enough")
        self._starts += 1
        self._log.append(("start", self.name))
        try:
            yield Started(0.5, (), settings={"start": str(self._starts)})
        finally:
            self._log.append(("stop", self.name))

    async def ask(self, prompt, new_tokens):
        self._log.append(("ask", self.name))
        now = time.perf_counter()
        return Answer(now, [now + 0.001 * (1 + n) for n in range(new_tokens)], now + 0.01, 64, new_tokens)


async def tokenize(prompt):
    return "".join(message.content for message in prompt.messages).split()


async def run(targets, rounds=3, **given):
    found = Run(targets, PLAN, Prompts(tokenize), MemoryPace(lambda: 1.0, 0.0), (), lambda event: None, **given)
    assert await found.rounds(rounds, 0.0, time.monotonic()) == rounds
    return found


async def test_every_round_starts_everything_anew_and_measures_it_in_turn():
    log = []
    found = await run([Instant("a", log), Instant("b", log)])
    starts = [entry for entry in log if entry[0] != "ask"]
    assert starts == [("start", "a"), ("start", "b"), ("stop", "b"), ("stop", "a")] * 3
    for result in found.results():
        assert [len(cell.samples) for cell in result.cells] == [3] * 7
        assert result.settings == {"start": "3"}
    first = log[: log.index(("stop", "b"))]
    turns = [name for (_, name), (_, before) in zip(first, [("", ""), *first], strict=False) if name != before]
    assert len(turns) >= 2 + 7  # warm-up, then cell after cell


async def test_what_never_starts_is_skipped_and_what_fails_later_keeps_what_it_has():
    found = await run([Instant("a", []), Instant("never", [], fails_at=0), Instant("later", [], fails_at=2)])
    a, later = found.results()
    assert (a.name, later.name) == ("a", "later")
    assert [len(cell.samples) for cell in later.cells] == [2] * 7
    assert {cell.problem for cell in later.cells} == {"later cannot be measured: it has had enough"}
    (skipped,) = found.skipped
    assert (skipped.name, skipped.reason) == ("never", "never cannot be measured: it has had enough")


async def test_a_budget_ends_the_rounds_but_not_before_the_first():
    found = Run([Instant("a", [])], PLAN, Prompts(tokenize), MemoryPace(lambda: 1.0, 0.0), (), lambda event: None)
    assert await found.rounds(5, 0.001, time.monotonic()) == 1
