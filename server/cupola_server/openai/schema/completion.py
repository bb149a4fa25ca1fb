"""The replies to a request for a chat completion: whole, or in chunks."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from cupola_server.openai.schema.tools import MessageToolCall
from cupola_server.openai.schema.usage import CompletionUsage

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class TopLogprob(Struct):
    """A token that could have been next. `token` has U+FFFD where `bytes` are no whole characters."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(Struct):
    """One token of an answer, how likely it was, and what was likeliest in its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct):
    """The tokens of an answer's content."""

    content: list[ContentLogprob]
    refusal: None = None


class CompletionMessage(Struct, kw_only=True):
    """An answer. `reasoning_content` is what the model thought before it, if it shows that."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[MessageToolCall] | UnsetType = UNSET


class CompletionChoice(Struct, kw_only=True):
    """One of the answers."""

    index: int
    message: CompletionMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(Struct, kw_only=True):
    """The reply to a request that does not stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[CompletionChoice, ...]
    usage: CompletionUsage
    system_fingerprint: None = None


class FunctionDelta(Struct, kw_only=True):
    """What a chunk adds to a call: its name at first, then its arguments, a piece of JSON text at a time."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDelta(Struct, kw_only=True):
    """What a chunk adds to the call of this index."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class Delta(Struct, kw_only=True):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[ToolCallDelta, ...] | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    """One of the answers, underway."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(Struct, kw_only=True):
    """One event of a stream. `usage` is there only when the client asked for it, and null until the last chunk."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: None = None
    choices: tuple[ChunkChoice, ...]
    usage: CompletionUsage | UnsetType | None = UNSET
