"""Checks a request for a response, and translates it with its conversation to `ChatParams`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cupola.frontend import ChatPrompt, GenerateRequest, Guidance, Message, Sampling, ToolCall
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.responses import items, schema
from cupola_server.openai.responses.items import FunctionCall, FunctionCallOutput, Item, Refusal
from cupola_server.openai.responses.schema import (
    AllowedTools,
    FunctionChoice,
    InputTokensRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseRequest,
    RetrieveQuery,
)
from cupola_server.openai.tools import FunctionTool, NamedFunction
from cupola_server.openai.turns import ChatParams, FieldNames, ToolChoice

_FIELD_NAMES = FieldNames(reasoning_effort="reasoning.effort")
_MIN_TOP_P = 1e-6
LOGPROBS = "message.output_text.logprobs"
_NO_CLOUD = "it belongs to a service of OpenAI that has no local equivalent"
_NO_PADDING = "events are never padded"
_NO_SUMMARY = "reasoning is returned in full, as the content of reasoning items, and never summarised"
_NO_CALLERS = "only the model calls functions"
# Field: the accepted values, which do not differ from the default, and why others are refused.
_Refused = Mapping[str, tuple[tuple[object, ...], str]]
_REQUEST: _Refused = {
    "access_programs": ((None,), _NO_CLOUD),
    "background_options": ((None, {}, {"completion_window": "soonest"}), "background responses start immediately"),
    "context_management": ((None, []), "conversations are never compacted"),
    "conversation": ((None,), "use 'previous_response_id' to continue a conversation"),
    "image": ((None,), "only text input is supported"),
    "moderation": ((None,), _NO_CLOUD),
    "prompt": ((None,), "stored prompts are not supported; send 'instructions' and 'input'"),
    "prompt_cache_options": ((None,), "the service manages the KV cache itself"),
    "prompt_cache_retention": ((None, "in_memory"), "the KV cache is kept in memory only"),
    "service_tier": ((None, "auto", "default"), "there is only one tier"),
    "truncation": ((None, "disabled"), "conversations are never truncated; send a shorter one"),
}
_REASONING: _Refused = {
    "context": ((None, "auto"), "the model's template decides which reasoning is included"),
    "generate_summary": ((None,), _NO_SUMMARY),
    "mode": ((None, "standard"), "there is only one mode"),
    "summary": ((None,), _NO_SUMMARY),
}
_TEXT: _Refused = {
    "verbosity": ((None, "medium"), "verbosity cannot be controlled; use 'max_output_tokens'"),
}
_TOOL: _Refused = {
    "allowed_callers": ((None, ["direct"]), _NO_CALLERS),
    "defer_loading": ((None, False), "all tools are shown to the model immediately"),
    "is_async": ((None, False), "results of calls are sent in the next request"),
    "output_schema": ((None,), _NO_CALLERS),
}
_COUNTED: _Refused = {"personality": ((None,), "personalities are not supported; describe one in 'instructions'")}
_RETRIEVED: _Refused = {
    "include_obfuscation": ((None, False), _NO_PADDING),
    "starting_after": ((None,), "it requires 'stream', and stored responses cannot be streamed"),
    "stream": ((None, False), "stored responses cannot be streamed; poll the response until it is complete"),
}


def check(request: ResponseRequest) -> None:
    """Check that all fields of a request are supported.

    Raises:
        FieldError: A field is not supported.
    """
    _check(request, _REQUEST)
    _check(request.reasoning, _REASONING, "reasoning.")
    _check(request.text, _TEXT, "text.")
    for i, tool in enumerate(request.tools or ()):
        _check(tool, _TOOL, f"tools[{i}].")
    check_include(request.include or ())
    if request.stream_options is not None and not request.stream:
        raise _contradiction("stream_options", "'stream_options' can only be used together with 'stream': true.")
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        raise unsupported("stream_options.include_obfuscation", _NO_PADDING)
    if request.background and request.store is False:
        raise _contradiction("background", "A background response must be stored; leave 'store' out or send true.")
    if request.background and request.stream:
        raise unsupported("stream", "background responses cannot be streamed; poll the response until it is complete")


def check_count(request: InputTokensRequest) -> None:
    """Check the fields that only requests to count tokens have.

    Raises:
        FieldError: A field is not supported.
    """
    _check(request, _COUNTED)


def check_retrieval(query: RetrieveQuery) -> None:
    """Check the query parameters for getting a stored response.

    Raises:
        FieldError: A parameter is not supported.
    """
    check_include(query.include)
    _check(query, _RETRIEVED)


def check_include(include: Sequence[str]) -> None:
    """Check that all values of `include` are supported.

    Raises:
        FieldError: A value is not supported.
    """
    for name in include:
        if name != LOGPROBS:
            raise unsupported("include", f"{name!r} is not available, only {LOGPROBS!r}")


def to_chat_params(request: ResponseRequest, conversation: Sequence[Item]) -> ChatParams:
    """Translate a request and its conversation.

    Raises:
        FieldError: The conversation or the tool choice is inconsistent.
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
        names=_FIELD_NAMES,
    )


def to_messages(instructions: str | None, conversation: Sequence[Item]) -> tuple[Message, ...]:
    """Translate the items of a conversation to messages.

    Adjacent reasoning, text and calls of the assistant become one message. Instructions and system messages at the
    start become one as well, because many templates support only one.

    Raises:
        FieldError: A function output has no matching call.
    """
    _check_calls(conversation)
    messages: list[Message] = [Message("system", instructions)] if instructions else []
    for item in conversation:
        message = _message(item)
        if messages and (joined := _join(messages[-1], message, first=len(messages) == 1)):
            messages[-1] = joined
        else:
            messages.append(message)
    return tuple(messages)


def _sampling(request: ResponseRequest) -> Sampling:
    # 0 means the smallest set, the most likely token alone; the engine requires a value above 0
    top_p = None if request.top_p is None else max(request.top_p, _MIN_TOP_P)
    return Sampling(temperature=request.temperature, top_p=top_p)


def _guidance(request: ResponseRequest) -> Guidance | None:
    format_ = request.text.format if request.text else None
    if isinstance(format_, JsonSchemaFormat):
        return Guidance("json_schema", msgspec.json.encode(format_.schema).decode(), "text.format.schema")
    if isinstance(format_, JsonObjectFormat):
        return Guidance("json_object", param="text.format")
    return None


def _top_logprobs(request: ResponseRequest) -> int | None:
    is_requested = LOGPROBS in (request.include or ()) or request.top_logprobs
    return (request.top_logprobs or 0) if is_requested else None


def _tools(request: ResponseRequest) -> tuple[tuple[FunctionTool, ...], ToolChoice]:
    """Return the functions that may be called, and the tool choice."""
    tools = {tool.name: tool for tool in _function_tools(request.tools or ())}
    choice = request.tool_choice or "auto"
    if choice == "required" and not tools:
        detail = "'tool_choice' is 'required', but there are no 'tools' to choose from."
        raise FieldError(param="tool_choice", code="invalid_value", detail=detail)
    if isinstance(choice, FunctionChoice):
        return tuple(tools.values()), NamedFunction(_find_tool(choice, tools, "tool_choice.name").name)
    if isinstance(choice, AllowedTools):
        known = [_find_tool(allowed, tools, f"tool_choice.tools[{i}].name") for i, allowed in enumerate(choice.tools)]
        return tuple({tool.name: tool for tool in known}.values()), choice.mode
    return tuple(tools.values()), choice


def _function_tools(tools: Sequence[schema.FunctionTool]) -> Iterator[FunctionTool]:
    names = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            detail = f"Two tools are named '{tool.name}'."
            raise FieldError(param=f"tools[{i}].name", code="invalid_value", detail=detail)
        names.add(tool.name)
        yield FunctionTool(tool.name, tool.description or "", tool.parameters, tool.strict is not False)


def _find_tool(choice: FunctionChoice, tools: Mapping[str, FunctionTool], param: str) -> FunctionTool:
    if choice.name not in tools:
        detail = f"'{param}' is '{choice.name[:80]}', but no function in 'tools' has this name."
        raise FieldError(param=param, code="invalid_value", detail=detail)
    return tools[choice.name]


def _check(fields: Struct | None, refused: _Refused, prefix: str = "") -> None:
    for name, (accepted, reason) in refused.items() if fields is not None else ():
        if getattr(fields, name) not in accepted:
            shown = "async" if name == "is_async" else name
            raise unsupported(f"{prefix}{shown}", reason)


def _contradiction(param: str, detail: str) -> FieldError:
    return FieldError(param=param, code="invalid_value", detail=detail)


def _message(item: Item) -> Message:
    if isinstance(item, items.Message):
        role = "system" if item.role == "developer" else item.role
        return Message(role, _lines(p.refusal if isinstance(p, Refusal) else p.text for p in item.content))
    if isinstance(item, FunctionCall):
        return Message("assistant", tool_calls=(ToolCall(item.call_id, item.name, item.arguments),))
    if isinstance(item, FunctionCallOutput):
        output = item.output if isinstance(item.output, str) else _lines(part.text for part in item.output)
        return Message("tool", output, tool_call_id=item.call_id)
    return Message("assistant", reasoning_content=_lines(part.text for part in item.content or item.summary))


def _join(last: Message, message: Message, *, first: bool) -> Message | None:
    """Join two messages; None if they must stay separate."""
    if last.role == message.role == "system" and first:
        return replace(last, content=f"{last.content}\n\n{message.content}")
    if last.role != "assistant" or message.role != "assistant":
        return None
    if message.tool_calls:
        return replace(last, tool_calls=(*last.tool_calls, *message.tool_calls))
    if message.reasoning_content is None and not last.content and not last.tool_calls:
        return replace(last, content=message.content)
    return None


def _check_calls(conversation: Sequence[Item]) -> None:
    called = set()
    for item in conversation:
        if isinstance(item, FunctionCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionCallOutput) and item.call_id not in called:
            detail = f"No function call found for the function call output with call_id '{item.call_id[:80]}'."
            raise FieldError(param="input", code="invalid_value", detail=detail)


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)
