"""The events of a streamed response, in the order in which a stream knows them."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from cupola_server.openai.responses.items import OutputItem, OutputText, ReasoningText
from cupola_server.openai.responses.response import Response
from cupola_server.openai.schema.chat_completion import ContentLogprob


class StreamEvent(Struct, tag_field="type"):
    """An event. Numbers go up by one from 0, over all events of a stream."""

    sequence_number: int


class ResponseCreated(StreamEvent, tag="response.created"):
    """The turn is accepted."""

    response: Response


class ResponseInProgress(StreamEvent, tag="response.in_progress"):
    """The model is at work."""

    response: Response


class ResponseCompleted(StreamEvent, tag="response.completed"):
    """The answer is whole. The last event."""

    response: Response


class ResponseIncomplete(StreamEvent, tag="response.incomplete"):
    """The answer came to the limit of tokens. The last event."""

    response: Response


class ResponseFailed(StreamEvent, tag="response.failed"):
    """The answer broke off. The last event, after `StreamError`."""

    response: Response


class StreamError(StreamEvent, tag="error"):
    """Why the answer breaks off."""

    code: str | None
    message: str
    param: str | None


class OutputItemAdded(StreamEvent, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: OutputItem


class OutputItemDone(StreamEvent, tag="response.output_item.done"):
    """An item is done; here it is whole."""

    output_index: int
    item: OutputItem


class PartEvent(StreamEvent):
    """An event of one part of an item."""

    item_id: str
    output_index: int
    content_index: int


class ContentPartAdded(PartEvent, tag="response.content_part.added"):
    """A part begins."""

    part: OutputText | ReasoningText


class ContentPartDone(PartEvent, tag="response.content_part.done"):
    """A part is done; here it is whole."""

    part: OutputText | ReasoningText


class TextDelta(PartEvent, tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: tuple[ContentLogprob, ...] = ()


class TextDone(PartEvent, tag="response.output_text.done"):
    """The whole text."""

    text: str
    logprobs: tuple[ContentLogprob, ...] = ()


class ReasoningMore(PartEvent, tag="response.reasoning_text.delta"):
    """More thoughts."""

    delta: str


class ReasoningDone(PartEvent, tag="response.reasoning_text.done"):
    """The whole thought."""

    text: str


class CallEvent(StreamEvent):
    """An event of a function call."""

    item_id: str
    output_index: int


class ArgumentsDelta(CallEvent, tag="response.function_call_arguments.delta"):
    """More of the arguments' JSON text."""

    delta: str


class ArgumentsDone(CallEvent, tag="response.function_call_arguments.done"):
    """The whole JSON text of the arguments."""

    arguments: str


Event = (
    ResponseCreated
    | ResponseInProgress
    | OutputItemAdded
    | ContentPartAdded
    | TextDelta
    | TextDone
    | ReasoningMore
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


def encode(events: Iterable[StreamEvent]) -> bytes:
    """Frame events as server-sent ones, each under its name."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (str(event.__struct_config__.tag).encode(), msgspec.json.encode(event))
        for event in events
    )
