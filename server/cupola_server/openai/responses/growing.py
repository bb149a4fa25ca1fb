"""Items of a response while they grow: each says which events tell of its beginning, its growth and its end."""

from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

from cupola_server.openai.replies import content_logprob
from cupola_server.openai.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    ContentPartAdded,
    ContentPartDone,
    Event,
    OutputItemAdded,
    OutputItemDone,
    ReasoningDone,
    ReasoningMore,
    TextDelta,
    TextDone,
)
from cupola_server.openai.responses.items import (
    FunctionCall,
    Message,
    OutputItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Status,
)
from cupola_server.openai.schema.chat_completion import ContentLogprob
from cupola_server.openai.stream_events import ContentDelta, ReasoningDelta, ToolArgumentsDelta, ToolCallStarted

Numbers = Callable[[], int]


class GrowingItem(Protocol):
    """An item that is not done."""

    def begin(self) -> list[Event]:
        """Tell that it is there."""

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return it whole, and what tells of that."""


class GrowingMessage:
    """A message of one part, which is text."""

    def __init__(self, index: int, numbers: Numbers) -> None:
        self._index, self._number = index, numbers
        self._part = (new_id("msg"), index, 0)
        self._text: list[str] = []
        self._logprobs: list[ContentLogprob] = []

    def begin(self) -> list[Event]:
        """Tell that the message and its part are there, empty."""
        return [
            OutputItemAdded(self._number(), self._index, self._item("in_progress")),
            ContentPartAdded(self._number(), *self._part, OutputText(text="")),
        ]

    def more(self, piece: ContentDelta) -> Event:
        """Grow by some text."""
        logprobs = tuple(map(content_logprob, piece.logprobs))
        self._text.append(piece.text)
        self._logprobs += logprobs
        return TextDelta(self._number(), *self._part, piece.text, logprobs)

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the message."""
        text = OutputText(text="".join(self._text), logprobs=tuple(self._logprobs))
        item = self._item(status, text)
        return item, [
            TextDone(self._number(), *self._part, text.text, text.logprobs),
            ContentPartDone(self._number(), *self._part, text),
            OutputItemDone(self._number(), self._index, item),
        ]

    def _item(self, status: Status, *content: OutputText) -> Message:
        return Message(id=self._part[0], role="assistant", status=status, content=content)


class GrowingReasoning:
    """Reasoning of one part."""

    def __init__(self, index: int, numbers: Numbers) -> None:
        self._index, self._number = index, numbers
        self._part = (new_id("rs"), index, 0)
        self._text: list[str] = []

    def begin(self) -> list[Event]:
        """Tell that the reasoning and its part are there, empty."""
        return [
            OutputItemAdded(self._number(), self._index, self._item("in_progress")),
            ContentPartAdded(self._number(), *self._part, ReasoningText("")),
        ]

    def more(self, piece: ReasoningDelta) -> Event:
        """Grow by some text."""
        self._text.append(piece.text)
        return ReasoningMore(self._number(), *self._part, piece.text)

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the reasoning."""
        text = ReasoningText("".join(self._text))
        item = self._item(status, text)
        return item, [
            ReasoningDone(self._number(), *self._part, text.text),
            ContentPartDone(self._number(), *self._part, text),
            OutputItemDone(self._number(), self._index, item),
        ]

    def _item(self, status: Status, *content: ReasoningText) -> Reasoning:
        return Reasoning(id=self._part[0], status=status, content=content)


class GrowingCall:
    """A call whose arguments are being written."""

    def __init__(self, index: int, numbers: Numbers, start: ToolCallStarted) -> None:
        self._index, self._number = index, numbers
        self._call = (new_id("fc"), index)
        self._start = start
        self._arguments: list[str] = []

    def begin(self) -> list[Event]:
        """Tell that the call is there, without arguments."""
        return [OutputItemAdded(self._number(), self._index, self._item("in_progress"))]

    def more(self, piece: ToolArgumentsDelta) -> Event:
        """Grow by some of the arguments."""
        self._arguments.append(piece.text)
        return ArgumentsDelta(self._number(), *self._call, piece.text)

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the call."""
        item = self._item(status)
        return item, [
            ArgumentsDone(self._number(), *self._call, item.arguments),
            OutputItemDone(self._number(), self._index, item),
        ]

    def _item(self, status: Status) -> FunctionCall:
        arguments = "".join(self._arguments)
        call_id, name = self._start.id, self._start.name
        return FunctionCall(id=self._call[0], call_id=call_id, name=name, arguments=arguments, status=status)


def new_id(prefix: str) -> str:
    """Make an id that nothing else has."""
    return f"{prefix}_{uuid4().hex}"
