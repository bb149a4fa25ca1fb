"""What an answer is made of, as it comes: in no API's own words."""

from typing import Literal

from msgspec import Struct

from cupola.frontend import TokenLogprob, Usage

EndReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ContentDelta(Struct, frozen=True):
    """More of the text that is meant for the reader. `logprobs` are those of its tokens, if they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Struct, frozen=True):
    """More of what the model thought before it answered."""

    text: str


class ToolCallStarted(Struct, frozen=True):
    """The model calls a function. `index` counts the calls of this answer, from 0."""

    index: int
    id: str
    name: str


class ToolArgumentsDelta(Struct, frozen=True):
    """More of the arguments of a call, a piece of JSON text."""

    index: int
    text: str


class Finished(Struct, frozen=True):
    """The last piece. The reason "tool_calls" says that there was at least one call."""

    reason: EndReason
    usage: Usage
    stopped_by: str | int | None = None


Piece = ContentDelta | ReasoningDelta | ToolCallStarted | ToolArgumentsDelta | Finished
