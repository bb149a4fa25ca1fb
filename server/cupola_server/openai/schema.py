"""What travels between an OpenAI client and this front-end: the request, decoded once, and every reply.

Fields and shapes follow OpenAI's API reference for chat completions and models as of the `openai` client 3.54.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

FinishReason = Literal["stop", "length"]

_INT64 = 2**63
_TokenCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Text = Annotated[str, Meta(min_length=1)]


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Text. `prompt_cache_breakpoint` is a hint for OpenAI's cache and means nothing here."""

    text: str
    prompt_cache_breakpoint: object = None


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What an assistant said instead of an answer."""

    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    """Known, and refused: no model here sees."""


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    """Known, and refused: no model here hears."""


class FilePart(Struct, tag_field="type", tag="file"):
    """Known, and refused: no model here reads files."""


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | Annotated[list[Part], Meta(min_length=1)]


class SystemMessage(Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    """Instructions. Several text parts are joined by line ends, here and in the other messages."""

    content: Content
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer", forbid_unknown_fields=True):
    """Instructions under their newer name; templates get them as "system"."""

    content: Content
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    """What the user said."""

    content: Content
    name: str | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """What the model said before. Clients send replies back whole, so that fields of replies are known here too.

    `refusal` stands in for a missing `content`; `annotations` mean nothing to a model and are not used.
    """

    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: object = None
    audio: object = None
    function_call: object = None
    tool_calls: object = None


class ToolMessage(Struct, tag_field="role", tag="tool"):
    """The result of a tool: known, and refused as long as tools are."""


class FunctionMessage(Struct, tag_field="role", tag="function"):
    """The result of a function, the older form of `ToolMessage`: known, and refused."""


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """How to stream. Chunks are never padded, so `include_obfuscation` can only be false."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/chat/completions: every field that OpenAI documents, and the extensions clients use.

    Nothing is dropped silently. A field is honoured, or it belongs to the group that can mean nothing on one's own
    machine, or any value but its default is refused by name (`translate` says why). An unknown field is an error.

    Honoured as OpenAI describes them: the fields from `messages` to `logit_bias`, with up to 16 `stop` strings.

    Honoured extensions: `top_k` (0 or -1: no limit), `min_p`, `repetition_penalty`, `ignore_eos` and `ttl`, the idle
    seconds after which the model may be unloaded, 0 for never.

    Accepted, because there is nobody here to bill, track or retain: `user`, `safety_identifier`, `metadata`,
    `prompt_cache_key`, `store` as false, `service_tier` as "auto" or "default", `prompt_cache_retention` as
    "in_memory". `parallel_tool_calls` is accepted while there are no tools whose calls could be parallel.
    """

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: _Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: _TokenCount | None = None
    max_tokens: _TokenCount | None = None
    stop: _Text | Annotated[list[_Text], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-_INT64, le=_INT64 - 1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: dict[_TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None

    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    ttl: Annotated[float, Meta(ge=0)] | None = None

    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_retention: str | None = None

    n: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: object = None
    tool_choice: object = None
    functions: object = None
    function_call: object = None
    response_format: object = None
    modalities: object = None
    audio: object = None
    prediction: object = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    web_search_options: object = None
    moderation: object = None
    prompt_cache_options: object = None


class PromptTokensDetails(Struct):
    """How many tokens of the prompt were in the KV cache already."""

    cached_tokens: int


class CompletionUsage(Struct, kw_only=True):
    """Token counts of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class CompletionMessage(Struct, kw_only=True):
    """An answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class CompletionChoice(Struct, kw_only=True):
    """One of the answers; there is one."""

    index: int = 0
    message: CompletionMessage
    logprobs: None = None
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


class Delta(Struct, kw_only=True):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET


class ChunkChoice(Struct, kw_only=True):
    """One of the answers, underway."""

    index: int = 0
    delta: Delta
    logprobs: None = None
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


class Model(Struct, kw_only=True):
    """A model, with what OpenAI's object has first and then what is good to know about a local one.

    Attributes:
        id: The variant's id, as a request may name it.
        object: Always "model".
        created: When it was published, in Unix seconds; 0 if the catalog does not say.
        owned_by: The publisher.
        alias: The shorter name that a request may use as well.
        cached: Its files are on this machine.
        loaded: It is in memory now.
        device: "CPU", "GPU" or "NPU".
        provider: The execution provider that the variant is made for.
        context_length: In tokens; null if the catalog does not say.
        max_output_tokens: The longest answer that the publisher recommends; null if not said.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    alias: str
    cached: bool
    loaded: bool
    device: str
    provider: str
    context_length: int | None
    max_output_tokens: int | None


class ModelList(Struct, kw_only=True):
    """The reply to GET /v1/models."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


class ErrorObject(Struct):
    """OpenAI's error object: a sentence, its kind, the field it is about, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """The body of every reply that is not a success."""

    error: ErrorObject
