"""From the pieces of an answer to the items of a response, and to the events that tell a client how they grow."""

from itertools import count

from cupola_server.openai.responses.events import Event
from cupola_server.openai.responses.growing import (
    GrowingCall,
    GrowingItem,
    GrowingMessage,
    GrowingReasoning,
    Numbers,
)
from cupola_server.openai.responses.items import OutputItem, Status
from cupola_server.openai.stream_events import (
    ContentDelta,
    ReasoningDelta,
    StreamEvent,
    ToolArgumentsDelta,
    ToolCallStarted,
)


class Output:
    """The output of one response, as it grows.

    An item grows while pieces of its kind come. A piece of another kind, or the next call, ends it and begins the next
    item, so that items follow each other as the model wrote them.

    Attributes:
        items: What is done.
    """

    def __init__(self, numbers: Numbers | None = None) -> None:
        self.items: list[OutputItem] = []
        self._numbers = numbers or count().__next__
        self._growing: GrowingItem | None = None

    def take(self, piece: StreamEvent) -> list[Event]:
        """Take the next piece; returns the events that tell of it. The piece that ends an answer is not for here."""
        events: list[Event] = []
        growing = self._growing
        if isinstance(piece, ContentDelta):
            if not isinstance(growing, GrowingMessage):
                events, growing = self._begin_message()
            return [*events, growing.more(piece)]
        if isinstance(piece, ReasoningDelta):
            if not isinstance(growing, GrowingReasoning):
                events, growing = self._begin_reasoning()
            return [*events, growing.more(piece)]
        if isinstance(piece, ToolCallStarted):
            events = self._end("completed")
            return [*events, *self._begin(GrowingCall(len(self.items), self._numbers, piece))]
        if isinstance(piece, ToolArgumentsDelta):
            assert isinstance(growing, GrowingCall), "arguments come after the start of their call"
            return [growing.more(piece)]
        return []

    def finish(self, status: Status) -> list[Event]:
        """End the last item. An answer of nothing at all is an empty message."""
        events = [] if self.items or self._growing else self._begin_message()[0]
        return [*events, *self._end(status)]

    def break_off(self) -> list[Event]:
        """End the last item where it stands, if there is one."""
        return self._end("incomplete")

    def _begin_message(self) -> tuple[list[Event], GrowingMessage]:
        events = self._end("completed")
        message = GrowingMessage(len(self.items), self._numbers)
        return [*events, *self._begin(message)], message

    def _begin_reasoning(self) -> tuple[list[Event], GrowingReasoning]:
        events = self._end("completed")
        reasoning = GrowingReasoning(len(self.items), self._numbers)
        return [*events, *self._begin(reasoning)], reasoning

    def _begin(self, item: GrowingItem) -> list[Event]:
        self._growing = item
        return item.begin()

    def _end(self, status: Status) -> list[Event]:
        if self._growing is None:
            return []
        item, events = self._growing.end(status)
        self.items.append(item)
        self._growing = None
        return events
