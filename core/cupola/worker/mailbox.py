"""Where what a worker sent waits for its reader."""

from collections import deque
from typing import Generic, TypeVar, cast

import anyio

from cupola.errors import CupolaError
from cupola.messages import TurnText

T = TypeVar("T")


class Mailbox(Generic[T]):
    """The events of one turn, in order. Text that is not read in time is merged.

    So a reader that is slow, or has stopped, costs the text of one answer at most, and never holds up the worker.
    """

    def __init__(self) -> None:
        self._events: deque[T | CupolaError] = deque()
        self._arrived = anyio.Event()

    def put(self, event: T | CupolaError) -> None:
        """Add an event; an error is raised to the reader in its place."""
        last = self._events[-1] if self._events else None
        if isinstance(event, TurnText) and isinstance(last, TurnText):
            merged = TurnText(
                event.turn, last.text + event.text, last.tokens + event.tokens, last.logprobs + event.logprobs
            )
            self._events[-1] = cast("T", merged)
        else:
            self._events.append(event)
        self._arrived.set()

    async def get(self) -> T:
        """Take the next event, waiting for it.

        Raises:
            CupolaError: The one that was put.
        """
        while not self._events:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event = self._events.popleft()
        if isinstance(event, CupolaError):
            raise event
        return event
