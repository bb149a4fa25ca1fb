"""Where a turn's events wait for its reader."""

from collections import deque

import anyio

from cupola.errors import CupolaError
from cupola.messages import TurnEvent, TurnText


class Mailbox:
    """The events of one turn, in order. Text that is not read in time is merged.

    So a reader that is slow, or has stopped, costs the text of one answer at most, and never holds up the worker.
    """

    def __init__(self) -> None:
        self._events: deque[TurnEvent | CupolaError] = deque()
        self._arrived = anyio.Event()

    def put(self, event: TurnEvent | CupolaError) -> None:
        """Add an event; an error is raised to the reader in its place."""
        last = self._events[-1] if self._events else None
        if isinstance(event, TurnText) and isinstance(last, TurnText):
            self._events[-1] = TurnText(
                event.turn, last.text + event.text, last.tokens + event.tokens, last.logprobs + event.logprobs
            )
        else:
            self._events.append(event)
        self._arrived.set()

    async def get(self) -> TurnEvent:
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
