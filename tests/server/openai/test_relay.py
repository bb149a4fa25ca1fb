"""The relay between a turn and its client."""

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from cupola import TurnFinished, TurnText, Usage, WorkerError
from cupola_server.openai.relay import TextRelay
from server.fake_engine import TINY

pytestmark = pytest.mark.anyio

END = TurnFinished(1, "stop", Usage(1, 1))


class Turn:
    """A turn that gives these events; an integer makes it wait for as many rounds of the event loop."""

    model, prompt_tokens = TINY, 1

    def __init__(self, *events):
        self.events = events

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            if isinstance(event, int):
                for _ in range(event):
                    await checkpoint()
            else:
                yield TurnText(1, event, 1) if isinstance(event, str) else event


async def test_what_waits_already_is_taken_in_one_piece():
    relay = TextRelay()
    await relay.fill(Turn("a", "", "b", "c", END))
    assert await relay.take() == "abc"
    assert await relay.take() == ""
    assert relay.finished is END


async def test_filling_pauses_at_the_limit_until_somebody_takes():
    relay = TextRelay(limit=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay.fill, Turn(*"abcdefg", END))
        await anyio.wait_all_tasks_blocked()
        assert await relay.take() == "abc"
        await anyio.wait_all_tasks_blocked()
        assert await relay.take() == "def"
        await anyio.wait_all_tasks_blocked()
        assert await relay.take() == "g"
        assert await relay.take() == ""


async def test_an_error_comes_after_the_text_before_it():
    relay = TextRelay()
    error = WorkerError(detail="It burns.")
    await relay.fill(Turn("a", "b", error))
    assert await relay.take() == "ab"
    assert await relay.take() == ""
    with pytest.raises(WorkerError) as caught:
        _ = relay.finished
    assert caught.value is error


async def test_a_turn_without_an_end_is_an_error():
    relay = TextRelay()
    await relay.fill(Turn("a"))
    with pytest.raises(WorkerError, match="broke off"):
        _ = relay.finished


@given(
    events=st.lists(st.text(max_size=3) | st.integers(0, 3)),
    limit=st.integers(1, 5),
    pauses=st.lists(st.integers(0, 3)),
)
def test_all_text_arrives_in_order_however_the_two_sides_take_turns(events, limit, pauses):
    async def run() -> str:
        relay, taken, rest = TextRelay(limit), "", list(pauses)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.fill, Turn(*events, END))
            while text := await relay.take():
                taken += text
                for _ in range(rest.pop() if rest else 0):
                    await checkpoint()
        assert relay.finished is END
        return taken

    assert anyio.run(run) == "".join(event for event in events if isinstance(event, str))
