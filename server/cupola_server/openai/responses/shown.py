"""The response object through its life: begun, and then completed, incomplete, failed or cancelled."""

import time
from collections.abc import Sequence

from msgspec.structs import replace

from cupola.frontend import Usage
from cupola_server.openai.errors import ErrorObject
from cupola_server.openai.responses.growing import new_id
from cupola_server.openai.responses.items import OutputItem
from cupola_server.openai.responses.response import (
    ErrorCode,
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseStatus,
    ResponseUsage,
    ShownReasoning,
    ShownText,
    ShownTool,
)
from cupola_server.openai.responses.schema import ResponseRequest, TextFormat
from cupola_server.openai.stream_events import Finished

_CODES: dict[str, ErrorCode] = {
    "invalid_request_error": "invalid_prompt",
    "rate_limit_error": "rate_limit_exceeded",
}


def begun(request: ResponseRequest, model: str, status: ResponseStatus = "in_progress") -> Response:
    """Return the response to a request whose answer is still to come."""
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


def ended(response: Response, output: Sequence[OutputItem], finished: Finished, *, reasoning_tokens: int) -> Response:
    """Return the response with its whole answer, which is incomplete if it came to the limit of tokens."""
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


def failed(response: Response, output: Sequence[OutputItem], error: ErrorObject) -> Response:
    """Return the response as it broke off, with what it would have said without a stream."""
    problem = ResponseError(code=_CODES.get(error.type, "server_error"), message=error.message)
    return replace(response, status="failed", output=tuple(output), error=problem)


def cancelled(response: Response, output: Sequence[OutputItem]) -> Response:
    """Return the response as its client gave it up."""
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
