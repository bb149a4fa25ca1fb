"""The response object, and the other bodies that this endpoint replies with."""

from typing import Any, Literal

from msgspec import Struct, field

from cupola_server.openai.responses.items import Item, OutputItem
from cupola_server.openai.responses.schema import Effort, Format, ToolChoice

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class ResponseError(Struct, kw_only=True):
    """Why a response failed."""

    code: ErrorCode
    message: str


class IncompleteDetails(Struct, kw_only=True):
    """Why a response is not complete: it came to the limit of tokens, or a service elsewhere withheld the rest."""

    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"


class InputTokensDetails(Struct, kw_only=True):
    """How many tokens of the input were in the KV cache already. What is written to it is not counted."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, kw_only=True):
    """How many tokens of the output were thoughts."""

    reasoning_tokens: int


class ResponseUsage(Struct, kw_only=True):
    """Token counts of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ShownTool(Struct, tag_field="type", tag="function", kw_only=True):
    """A function that the model could call."""

    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool


class ShownText(Struct, kw_only=True):
    """What the text was asked to look like."""

    format: Format
    verbosity: Literal["medium"] = "medium"


class ShownReasoning(Struct, kw_only=True):
    """How much the model was asked to think; null is its own default."""

    effort: Effort | None
    summary: None = None


class Response(Struct, kw_only=True):
    """A response. Null for a setting means that the model's own configuration decides.

    `store` is OpenAI's, though its client does not name it; it is false when the answer could not be kept.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus
    background: bool
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: tuple[OutputItem, ...] = ()
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ShownReasoning
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float | None
    text: ShownText
    tool_choice: ToolChoice
    tools: tuple[ShownTool, ...]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None
    metadata: dict[str, str]


class DeletedResponse(Struct, kw_only=True):
    """The reply to DELETE."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class InputTokens(Struct, kw_only=True):
    """How many tokens a prompt has."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class ItemList(Struct, kw_only=True):
    """A page of what went into a response. The ids are null for a page without items."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoredResponse(Struct, kw_only=True):
    """What one file of the store holds: the response, and everything said before it except its instructions."""

    response: Response
    input: tuple[Item, ...] = field(default_factory=tuple)
