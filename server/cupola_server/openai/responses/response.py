"""The response object and its states, and the other bodies of this endpoint."""

import time
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from cupola.frontend import Usage
from cupola_server.openai.errors import ErrorObject
from cupola_server.openai.responses.items import Item, OutputItem, new_id
from cupola_server.openai.responses.schema import Effort, Format, ResponseRequest, TextFormat, ToolChoice
from cupola_server.openai.stream_events import Finished

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
_CODES: dict[str, ErrorCode] = {
    "invalid_request_error": "invalid_prompt",
    "rate_limit_error": "rate_limit_exceeded",
}


class ResponseError(Struct, kw_only=True):
    """Why a response failed."""

    code: ErrorCode
    message: str


class IncompleteDetails(Struct, kw_only=True):
    """Why a response is incomplete: the token limit was reached, or an external service filtered the rest."""

    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"


class InputTokensDetails(Struct, kw_only=True):
    """The number of input tokens found in the KV cache. Tokens written to it are not counted."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, kw_only=True):
    """The number of output tokens that were reasoning."""

    reasoning_tokens: int


class ResponseUsage(Struct, kw_only=True):
    """The token counts of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ShownTool(Struct, tag_field="type", tag="function", kw_only=True):
    """A function tool, as returned with the response."""

    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool


class ShownText(Struct, kw_only=True):
    """The text format, as returned with the response."""

    format: Format
    verbosity: Literal["medium"] = "medium"


class ShownReasoning(Struct, kw_only=True):
    """The reasoning effort, as returned with the response; null means the model's default."""

    effort: Effort | None
    summary: None = None


class Response(Struct, kw_only=True):
    """A response. Settings that are null have the default of the model's configuration.

    `store` is part of OpenAI's API although its client does not declare it. It is false if storing failed.
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
    """The response of DELETE."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class InputTokens(Struct, kw_only=True):
    """The number of tokens of a prompt."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class ItemList(Struct, kw_only=True):
    """A page of input items. The ids are null if it is empty."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoredResponse(Struct, kw_only=True):
    """A record of the store: the response, and the conversation before it without its instructions."""

    response: Response
    input: tuple[Item, ...] = field(default_factory=tuple)


def start_response(request: ResponseRequest, model: str, status: ResponseStatus = "in_progress") -> Response:
    """Create the response to a request before its answer."""
    return Response(
        id=new_id("resp"),
        created_at=int(time.time()),
        status=status,
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=ShownReasoning(effort=request.reasoning.effort if request.reasoning else None),
        safety_identifier=request.safety_identifier,
        store=request.store is not False,
        temperature=request.temperature,
        text=ShownText(format=(request.text and request.text.format) or TextFormat()),
        tool_choice=request.tool_choice or "auto",
        tools=_tools(request),
        top_logprobs=request.top_logprobs or 0,
        top_p=request.top_p,
        user=request.user,
        metadata=request.metadata or {},
    )


def finish_response(
    response: Response, output: Sequence[OutputItem], finished: Finished, *, reasoning_tokens: int
) -> Response:
    """Return the response with its complete output. It is incomplete if the token limit was reached."""
    reasons: dict[str, IncompleteDetails] = {
        "length": IncompleteDetails(),
        "content_filter": IncompleteDetails(reason="content_filter"),
    }
    cut = reasons.get(finished.reason)
    return replace(
        response,
        status="incomplete" if cut else "completed",
        incomplete_details=cut,
        completed_at=None if cut else int(time.time()),
        output=tuple(output),
        usage=_usage(finished.usage, reasoning_tokens),
    )


def fail_response(response: Response, output: Sequence[OutputItem], error: ErrorObject) -> Response:
    """Return the response as failed, with the error and the output so far."""
    response_error = ResponseError(code=_CODES.get(error.type, "server_error"), message=error.message)
    return replace(response, status="failed", output=tuple(output), error=response_error)


def cancel_response(response: Response, output: Sequence[OutputItem]) -> Response:
    """Return the response as cancelled, with the output so far."""
    return replace(response, status="cancelled", output=tuple(output))


def _tools(request: ResponseRequest) -> tuple[ShownTool, ...]:
    return tuple(
        ShownTool(
            name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict is not False
        )
        for tool in request.tools or ()
    )


def _usage(usage: Usage, reasoning_tokens: int) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoning_tokens),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
