"""The request of POST /v1/chat/completions."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from cupola_server.openai.schema.fields import (
    INT64,
    Choices,
    Penalty,
    ResponseFormat,
    Schema,
    StructuredOutputs,
    Text,
    TokenCount,
    TokenId,
)
from cupola_server.openai.schema.messages import ChatMessage
from cupola_server.openai.schema.tools import ToolChoiceParam, ToolParam


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of a stream. `include_obfuscation` must be false, because chunks are never padded."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/chat/completions: every field that OpenAI documents, and the extensions clients use.

    No field is ignored silently. A field is supported, or accepted without effect, or rejected by name with a reason
    unless it has its default value. Unknown fields are errors.

    Supported as OpenAI documents them: the fields from `messages` to `reasoning_effort`, with up to 16 `stop` strings.
    `response_format` and the schemas of `strict` functions are enforced during generation. `reasoning_effort` requires
    a model whose chat template supports it.

    Supported extensions: `top_k` (0 or -1: no limit), `min_p`, `repetition_penalty`, `ignore_eos`, `min_tokens`,
    `stop_token_ids`, `chat_template_kwargs` (additional variables of the chat template), `guided_json`,
    `guided_regex`, `guided_choice`, `guided_grammar` (Lark in llguidance's dialect), `structured_outputs` (any of
    these four), `ttl` (idle seconds before the model may be unloaded, 0 for never) and `ep` (the execution provider,
    by its full or short name).

    Accepted without effect, because a local service neither bills nor tracks nor retains: `user`, `safety_identifier`,
    `metadata`, `prompt_cache_key`, `store` as false, `service_tier` as "auto" or "default", and
    `prompt_cache_retention` as "in_memory".
    """

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_completion_tokens: TokenCount | None = None
    max_tokens: TokenCount | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-INT64, le=INT64 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolParam], Meta(max_length=128)] | None = None
    tool_choice: ToolChoiceParam | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None

    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=10)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=128)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    guided_json: Schema | str | None = None
    guided_regex: Text | None = None
    guided_choice: Choices | None = None
    guided_grammar: Text | None = None
    structured_outputs: StructuredOutputs | None = None
    ttl: Annotated[float, Meta(ge=0)] | None = None
    ep: Text | None = None

    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_retention: str | None = None

    functions: object = None
    function_call: object = None
    modalities: object = None
    audio: object = None
    prediction: object = None
    verbosity: str | None = None
    web_search_options: object = None
    moderation: object = None
    prompt_cache_options: object = None
