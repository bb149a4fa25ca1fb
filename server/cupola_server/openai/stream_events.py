"""The events of a streamed answer, independent of any API."""

from typing import Literal

from msgspec import Struct

from cupola.frontend import TokenLogprob, Usage

EndReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ContentDelta(Struct, frozen=True):
    """More text of the answer. `logprobs` has one entry per token of it, if the request asked for them."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Struct, frozen=True):
    """More of the model's reasoning."""

    text: str


class ToolCallStarted(Struct, frozen=True):
    """The start of a function call. `index` is its position among the calls of this answer, from 0."""

    index: int
    id: str
    name: str


class ToolArgumentsDelta(Struct, frozen=True):
    """More JSON text of the arguments of a call."""

    index: int
    text: str


class Finished(Struct, frozen=True):
    """The last event. The reason is "tool_calls" if the answer contains at least one call.

    `stopped_by` is the stop string or stop token id of the request that ended the answer, if one did.
    """

    reason: EndReason
    usage: Usage
    stopped_by: str | int | None = None


StreamEvent = ContentDelta | ReasoningDelta | ToolCallStarted | ToolArgumentsDelta | Finished
