"""The request and responses of POST /v1/completions, OpenAI's older API."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from cupola_server.openai.schema.chat import StreamOptions
from cupola_server.openai.schema.chat_completion import CompletionUsage
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


class TextCompletionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/completions: every field that OpenAI documents, and the extensions of chat completions.

    `prompt` is a text, up to 64 texts, the tokens of one, or up to 64 lists of tokens; none may be empty. Special
    tokens in a text are plain text, and no chat template is applied. Prompts times `n` may be 64 answers at most, which
    run at the same time; those to the first prompt come first.

    Supported as OpenAI documents them: `max_tokens` (default 16), `echo`, `logprobs`, `n`, `stream`, and the fields of
    chat completions. `best_of` must be 1 or equal to `n`. `echo` cannot be combined with `logprobs`, because log
    probabilities of prompts are not computed. `suffix` is refused.

    `user` is accepted and has no effect. The extensions, from `top_k` on, are those of chat completions.
    """

    prompt: str | list[str | TokenId | list[TokenId]]
    model: Text
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    max_tokens: TokenCount | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=-INT64, le=INT64 - 1)] | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    user: str | None = None

    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=10)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=128)] | None = None
    response_format: ResponseFormat | None = None
    guided_json: Schema | str | None = None
    guided_regex: Text | None = None
    guided_choice: Choices | None = None
    guided_grammar: Text | None = None
    structured_outputs: StructuredOutputs | None = None
    ttl: Annotated[float, Meta(ge=0)] | None = None


class TextLogprobs(Struct, kw_only=True):
    r"""Log probabilities in the format of this endpoint: four lists with one entry per token.

    Attributes:
        tokens: The text of each token; "bytes:\xf0\x9f" for bytes that are not valid UTF-8.
        token_logprobs: The log probabilities of the chosen tokens.
        top_logprobs: The log probabilities of the most likely tokens at each position, including the chosen one.
        text_offset: The character offset of each token in the text.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, kw_only=True):
    """A choice, or the part of it in a chunk."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class TextCompletion(Struct, kw_only=True):
    """The response, and each event of a stream. In a stream `usage` is present only if the client asked for it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: None = None
    choices: tuple[TextChoice, ...]
    usage: CompletionUsage | UnsetType | None = UNSET
