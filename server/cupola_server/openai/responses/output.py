"""Writes the output of a response: items, and the events that report how they grow."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

from cupola.errors import WorkerError
from cupola.frontend import EngineView, TextPrompt
from cupola_server.openai.replies import content_logprob
from cupola_server.openai.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    ContentPartAdded,
    ContentPartDone,
    Event,
    OutputItemAdded,
    OutputItemDone,
    ReasoningDeltaEvent,
    ReasoningDone,
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
    new_id,
)
from cupola_server.openai.responses.response import Response, finish_response
from cupola_server.openai.schema.chat_completion import ContentLogprob
from cupola_server.openai.stream import AnswerStream
from cupola_server.openai.stream_events import (
    ContentDelta,
    Finished,
    ReasoningDelta,
    StreamEvent,
    ToolArgumentsDelta,
    ToolCallStarted,
)

SequenceNumbers = Callable[[], int]
SendEvents = Callable[[list[Event]], Awaitable[None]]


async def write(
    answer: AnswerStream, response: Response, output: "Output", *, send: SendEvents, engine: EngineView
) -> Response:
    """Write a response until the turn ends.

    Args:
        answer: The running turn.
        response: The response in progress.
        output: Collects the output items.
        send: Receives the events as they occur.
        engine: Counts the tokens of the reasoning.

    Returns:
        The completed or incomplete response.

    Raises:
        WorkerError: The answer ended early. `output` contains what was written.
    """
    async for event in answer:
        if isinstance(event, Finished):
            await send(output.finish("incomplete" if event.reason in ("length", "content_filter") else "completed"))
            # external models do not report the tokens of their reasoning
            tokens = 0 if answer.is_external else await _reasoning_tokens(output.items, answer.model.id, engine)
            return finish_response(response, output.items, event, reasoning_tokens=tokens)
        if events := output.add(event):
            await send(events)
    raise WorkerError(detail="The answer ended unexpectedly, without a reason.")


class Output:
    """The output of one response while it is written.

    Events of one kind extend the current item. An event of another kind, or another call, completes it and starts the
    next one, so that items are in the order in which the model wrote them.

    Args:
        numbers: Returns the next sequence number.

    Attributes:
        items: The completed items.
    """

    def __init__(self, numbers: SequenceNumbers | None = None) -> None:
        self.items: list[OutputItem] = []
        self._numbers = numbers or count().__next__
        self._item: ItemBuilder | None = None

    def add(self, event: StreamEvent) -> list[Event]:
        """Add an event of the answer, except the last one, and return the events that report it."""
        events: list[Event] = []
        builder = self._item
        if isinstance(event, ContentDelta):
            if not isinstance(builder, MessageBuilder):
                events, builder = self._begin_message()
            return [*events, builder.add(event)]
        if isinstance(event, ReasoningDelta):
            if not isinstance(builder, ReasoningBuilder):
                events, builder = self._begin_reasoning()
            return [*events, builder.add(event)]
        if isinstance(event, ToolCallStarted):
            events = self._end("completed")
            return [*events, *self._begin(CallBuilder(len(self.items), self._numbers, event))]
        if isinstance(event, ToolArgumentsDelta):
            assert isinstance(builder, CallBuilder), "arguments follow the start of their call"
            return [builder.add(event)]
        return []

    def finish(self, status: Status) -> list[Event]:
        """Complete the last item. An empty answer becomes an empty message."""
        events = [] if self.items or self._item else self._begin_message()[0]
        return [*events, *self._end(status)]

    def abort(self) -> list[Event]:
        """End the current item as incomplete, if there is one."""
        return self._end("incomplete")

    def _begin_message(self) -> "tuple[list[Event], MessageBuilder]":
        events = self._end("completed")
        message = MessageBuilder(len(self.items), self._numbers)
        return [*events, *self._begin(message)], message

    def _begin_reasoning(self) -> "tuple[list[Event], ReasoningBuilder]":
        events = self._end("completed")
        reasoning = ReasoningBuilder(len(self.items), self._numbers)
        return [*events, *self._begin(reasoning)], reasoning

    def _begin(self, item: "ItemBuilder") -> list[Event]:
        self._item = item
        return item.begin()

    def _end(self, status: Status) -> list[Event]:
        if self._item is None:
            return []
        item, events = self._item.end(status)
        self.items.append(item)
        self._item = None
        return events


class ItemBuilder(Protocol):
    """Builds an item and the events that report it."""

    def begin(self) -> list[Event]:
        """Return the events that start the item."""

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the complete item, and the events that end it."""


class MessageBuilder:
    """Builds a message with one text part."""

    def __init__(self, index: int, numbers: SequenceNumbers) -> None:
        self._index, self._number = index, numbers
        self._part = (new_id("msg"), index, 0)
        self._text: list[str] = []
        self._logprobs: list[ContentLogprob] = []

    def begin(self) -> list[Event]:
        """Return the events that start the message and its part."""
        return [
            OutputItemAdded(self._number(), self._index, self._item("in_progress")),
            ContentPartAdded(self._number(), *self._part, OutputText(text="")),
        ]

    def add(self, event: ContentDelta) -> Event:
        """Add text."""
        logprobs = tuple(map(content_logprob, event.logprobs))
        self._text.append(event.text)
        self._logprobs += logprobs
        return TextDelta(self._number(), *self._part, event.text, logprobs)

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the complete message, and the events that end it."""
        text = OutputText(text="".join(self._text), logprobs=tuple(self._logprobs))
        item = self._item(status, text)
        return item, [
            TextDone(self._number(), *self._part, text.text, text.logprobs),
            ContentPartDone(self._number(), *self._part, text),
            OutputItemDone(self._number(), self._index, item),
        ]

    def _item(self, status: Status, *content: OutputText) -> Message:
        return Message(id=self._part[0], role="assistant", status=status, content=content)


class ReasoningBuilder:
    """Builds a reasoning item with one part."""

    def __init__(self, index: int, numbers: SequenceNumbers) -> None:
        self._index, self._number = index, numbers
        self._part = (new_id("rs"), index, 0)
        self._text: list[str] = []

    def begin(self) -> list[Event]:
        """Return the events that start the item and its part."""
        return [
            OutputItemAdded(self._number(), self._index, self._item("in_progress")),
            ContentPartAdded(self._number(), *self._part, ReasoningText("")),
        ]

    def add(self, event: ReasoningDelta) -> Event:
        """Add text."""
        self._text.append(event.text)
        return ReasoningDeltaEvent(self._number(), *self._part, event.text)

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the complete item, and the events that end it."""
        text = ReasoningText("".join(self._text))
        item = self._item(status, text)
        return item, [
            ReasoningDone(self._number(), *self._part, text.text),
            ContentPartDone(self._number(), *self._part, text),
            OutputItemDone(self._number(), self._index, item),
        ]

    def _item(self, status: Status, *content: ReasoningText) -> Reasoning:
        return Reasoning(id=self._part[0], status=status, content=content)


class CallBuilder:
    """Builds a function call."""

    def __init__(self, index: int, numbers: SequenceNumbers, start: ToolCallStarted) -> None:
        self._index, self._number = index, numbers
        self._call = (new_id("fc"), index)
        self._start = start
        self._arguments: list[str] = []

    def begin(self) -> list[Event]:
        """Return the event that starts the call."""
        return [OutputItemAdded(self._number(), self._index, self._item("in_progress"))]

    def add(self, event: ToolArgumentsDelta) -> Event:
        """Add text of the arguments."""
        self._arguments.append(event.text)
        return ArgumentsDelta(self._number(), *self._call, event.text)

    def end(self, status: Status) -> tuple[OutputItem, list[Event]]:
        """Return the complete call, and the events that end it."""
        item = self._item(status)
        return item, [
            ArgumentsDone(self._number(), *self._call, item.arguments),
            OutputItemDone(self._number(), self._index, item),
        ]

    def _item(self, status: Status) -> FunctionCall:
        arguments = "".join(self._arguments)
        call_id, name = self._start.id, self._start.name
        return FunctionCall(id=self._call[0], call_id=call_id, name=name, arguments=arguments, status=status)


async def _reasoning_tokens(items: list[OutputItem], model: str, engine: EngineView) -> int:
    """Count the tokens of the reasoning text. Its markers count as part of the answer."""
    texts = [part.text for item in items if isinstance(item, Reasoning) for part in item.content]
    return sum([len(await engine.tokenize(model, TextPrompt(text))) for text in texts])
