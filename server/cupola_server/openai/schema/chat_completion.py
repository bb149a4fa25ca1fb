"""The responses of POST /v1/chat/completions: complete, or in chunks."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from cupola_server.openai.schema.tools import MessageToolCall

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class TopLogprob(Struct):
    """A likely token. `token` has U+FFFD where `bytes` are not valid UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(Struct):
    """A token of the answer with its log probability, and the most likely tokens at its position."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct):
    """The log probabilities of the answer's content."""

    content: list[ContentLogprob]
    refusal: None = None


class CompletionMessage(Struct, kw_only=True):
    """The assistant's message. `reasoning_content` holds the reasoning, if there is any."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[MessageToolCall] | UnsetType = UNSET


class CompletionChoice(Struct, kw_only=True):
    """One of the choices."""

    index: int
    message: CompletionMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason


class PromptTokensDetails(Struct):
    """The number of prompt tokens found in the KV cache."""

    cached_tokens: int


class CompletionUsage(Struct, kw_only=True):
    """The token counts of a response."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatCompletion(Struct, kw_only=True):
    """The response without streaming."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[CompletionChoice, ...]
    usage: CompletionUsage
    system_fingerprint: None = None


class FunctionDelta(Struct, kw_only=True):
    """The part of a call in a chunk: first its name, then the JSON text of its arguments."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDelta(Struct, kw_only=True):
    """The part of a call in a chunk; `index` identifies the call."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class Delta(Struct, kw_only=True):
    """The part of the message in a chunk."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[ToolCallDelta, ...] | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    """The part of a choice in a chunk."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(Struct, kw_only=True):
    """An event of a stream. `usage` is present only if the client asked for it, and null except in the last chunk."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: None = None
    choices: tuple[ChunkChoice, ...]
    usage: CompletionUsage | UnsetType | None = UNSET
