"""The events of a streamed response."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from cupola_server.openai.responses.items import OutputItem, OutputText, ReasoningText
from cupola_server.openai.responses.response import Response
from cupola_server.openai.schema.chat_completion import ContentLogprob


class ResponseEvent(Struct, tag_field="type"):
    """The base of all events. `sequence_number` counts the events of a stream from 0."""

    sequence_number: int


class ResponseCreated(ResponseEvent, tag="response.created"):
    """The request was accepted."""

    response: Response


class ResponseInProgress(ResponseEvent, tag="response.in_progress"):
    """The model is generating."""

    response: Response


class ResponseCompleted(ResponseEvent, tag="response.completed"):
    """The response is complete. The last event."""

    response: Response


class ResponseIncomplete(ResponseEvent, tag="response.incomplete"):
    """The response reached the token limit. The last event."""

    response: Response


class ResponseFailed(ResponseEvent, tag="response.failed"):
    """The response failed. The last event, after `StreamError`."""

    response: Response


class StreamError(ResponseEvent, tag="error"):
    """The error that ends the stream."""

    code: str | None
    message: str
    param: str | None


class OutputItemAdded(ResponseEvent, tag="response.output_item.added"):
    """An item starts."""

    output_index: int
    item: OutputItem


class OutputItemDone(ResponseEvent, tag="response.output_item.done"):
    """An item is complete."""

    output_index: int
    item: OutputItem


class PartEvent(ResponseEvent):
    """The base of events about a part of an item."""

    item_id: str
    output_index: int
    content_index: int


class ContentPartAdded(PartEvent, tag="response.content_part.added"):
    """A part starts."""

    part: OutputText | ReasoningText


class ContentPartDone(PartEvent, tag="response.content_part.done"):
    """A part is complete."""

    part: OutputText | ReasoningText


class TextDelta(PartEvent, tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: tuple[ContentLogprob, ...] = ()


class TextDone(PartEvent, tag="response.output_text.done"):
    """The complete text."""

    text: str
    logprobs: tuple[ContentLogprob, ...] = ()


class ReasoningDeltaEvent(PartEvent, tag="response.reasoning_text.delta"):
    """More reasoning."""

    delta: str


class ReasoningDone(PartEvent, tag="response.reasoning_text.done"):
    """The complete reasoning."""

    text: str


class CallEvent(ResponseEvent):
    """The base of events about a function call."""

    item_id: str
    output_index: int


class ArgumentsDelta(CallEvent, tag="response.function_call_arguments.delta"):
    """More JSON text of the arguments."""

    delta: str


class ArgumentsDone(CallEvent, tag="response.function_call_arguments.done"):
    """The complete JSON text of the arguments."""

    arguments: str


Event = (
    ResponseCreated
    | ResponseInProgress
    | OutputItemAdded
    | ContentPartAdded
    | TextDelta
    | TextDone
    | ReasoningDeltaEvent
    | ReasoningDone
    | ContentPartDone
    | ArgumentsDelta
    | ArgumentsDone
    | OutputItemDone
    | ResponseCompleted
    | ResponseIncomplete
    | ResponseFailed
    | StreamError
)


def encode(events: Iterable[ResponseEvent]) -> bytes:
    """Encode events as server-sent events with their names."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (str(event.__struct_config__.tag).encode(), msgspec.json.encode(event))
        for event in events
    )
