"""From a request and its conversation to what the model is asked."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from cupola.frontend import ChatPrompt, GenerateRequest, Guidance, Sampling
from cupola_server.openai.errors import FieldError
from cupola_server.openai.responses import schema
from cupola_server.openai.responses.checks import LOGPROBS
from cupola_server.openai.responses.conversation import to_messages
from cupola_server.openai.responses.items import Item
from cupola_server.openai.responses.schema import (
    AllowedTools,
    FunctionChoice,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseRequest,
)
from cupola_server.openai.tools import FunctionTool, NamedFunction
from cupola_server.openai.turns import ChatParams, FieldNames, ToolChoice

_PARAMS = FieldNames(reasoning_effort="reasoning.effort")
_SMALLEST_TOP_P = 1e-6


def to_ask(request: ResponseRequest, conversation: Sequence[Item]) -> ChatParams:
    """Say what to ask.

    Raises:
        FieldError: The conversation or the choice of tools contradicts itself.
    """
    tools, choice = _tools(request)
    return ChatParams(
        request=GenerateRequest(
            model=request.model,
            prompt=ChatPrompt(to_messages(request.instructions, conversation)),
            sampling=_sampling(request),
            max_tokens=request.max_output_tokens,
            guidance=_guidance(request),
            top_logprobs=_top_logprobs(request),
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        reasoning_effort=request.reasoning.effort if request.reasoning else None,
        names=_PARAMS,
    )


def _sampling(request: ResponseRequest) -> Sampling:
    # 0 asks for the smallest set of tokens, which is the likeliest one alone; the engine's range begins above 0
    top_p = None if request.top_p is None else max(request.top_p, _SMALLEST_TOP_P)
    return Sampling(temperature=request.temperature, top_p=top_p)


def _guidance(request: ResponseRequest) -> Guidance | None:
    format_ = request.text.format if request.text else None
    if isinstance(format_, JsonSchemaFormat):
        return Guidance("json_schema", msgspec.json.encode(format_.schema).decode(), "text.format.schema")
    if isinstance(format_, JsonObjectFormat):
        return Guidance("json_object", param="text.format")
    return None


def _top_logprobs(request: ResponseRequest) -> int | None:
    wanted = LOGPROBS in (request.include or ()) or request.top_logprobs
    return (request.top_logprobs or 0) if wanted else None


def _tools(request: ResponseRequest) -> tuple[tuple[FunctionTool, ...], ToolChoice]:
    """Return the functions that may be called, and how they are chosen."""
    tools = {tool.name: tool for tool in _described(request.tools or ())}
    choice = request.tool_choice or "auto"
    if choice == "required" and not tools:
        detail = "'tool_choice' is 'required', but there are no 'tools' to choose from."
        raise FieldError(param="tool_choice", code="invalid_value", detail=detail)
    if isinstance(choice, FunctionChoice):
        return tuple(tools.values()), NamedFunction(_known(choice, tools, "tool_choice.name").name)
    if isinstance(choice, AllowedTools):
        known = [_known(one, tools, f"tool_choice.tools[{i}].name") for i, one in enumerate(choice.tools)]
        return tuple({tool.name: tool for tool in known}.values()), choice.mode
    return tuple(tools.values()), choice


def _described(tools: Sequence[schema.FunctionTool]) -> Iterator[FunctionTool]:
    names = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            detail = f"There are two tools named '{tool.name}'."
            raise FieldError(param=f"tools[{i}].name", code="invalid_value", detail=detail)
        names.add(tool.name)
        yield FunctionTool(tool.name, tool.description or "", tool.parameters, tool.strict is not False)


def _known(choice: FunctionChoice, tools: Mapping[str, FunctionTool], param: str) -> FunctionTool:
    if choice.name not in tools:
        detail = f"'{param}' is '{choice.name[:80]}', but 'tools' has no function of that name."
        raise FieldError(param=param, code="invalid_value", detail=detail)
    return tools[choice.name]
