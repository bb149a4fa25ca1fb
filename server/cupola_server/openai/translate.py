"""From OpenAI's request to what the engine is asked. What cannot be honoured stops here, by name."""

from collections.abc import Iterator

from cupola.frontend import ChatPrompt, GenerateRequest, Sampling
from cupola_server.openai.answers import ChatAsk, ToolChoice
from cupola_server.openai.conversation import NO_CUSTOM_TOOLS, NO_FUNCTIONS, TEXT_ONLY, to_messages, unsupported
from cupola_server.openai.errors import FieldError
from cupola_server.openai.guidance import to_guidance
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.tools import AllowedToolsChoice, CustomToolChoice, CustomToolParam, NamedToolChoice
from cupola_server.openai.tools import FunctionTool, NamedFunction

_NO_CLOUD = "it names a service of OpenAI that does not exist here"

# Field: the values that ask for nothing beside the default, and why no other one is possible.
_REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "audio": ((None,), TEXT_ONLY),
    "function_call": ((None, "none"), NO_FUNCTIONS),
    "functions": ((None, []), NO_FUNCTIONS),
    "modalities": ((None, ["text"]), TEXT_ONLY),
    "moderation": ((None,), _NO_CLOUD),
    "prediction": ((None,), "predicted outputs are not available"),
    "prompt_cache_options": ((None,), "the KV cache is managed by the service alone"),
    "prompt_cache_retention": ((None, "in_memory"), "the KV cache lives in memory only"),
    "service_tier": ((None, "auto", "default"), "there is one tier"),
    "store": ((None, False), "completions are not stored"),
    "verbosity": ((None, "medium"), "the length of answers cannot be steered; use 'max_completion_tokens'"),
    "web_search_options": ((None,), _NO_CLOUD),
}
_SMALLEST_TOP_P = 1e-6


def to_chat_ask(request: ChatRequest) -> ChatAsk:
    """Translate a request.

    Raises:
        FieldError: Names the field that cannot be honoured.
    """
    for name, (accepted, reason) in _REFUSED.items():
        if getattr(request, name) not in accepted:
            raise unsupported(name, reason)
    _check_stream_options(request)
    tools = tuple(_tools(request))
    choice, tools = _tool_choice(request, tools)
    parallel = request.parallel_tool_calls is not False
    return ChatAsk(
        request=_generate_request(request),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        reasoning_effort=request.reasoning_effort,
        template_options=request.chat_template_kwargs or {},
    )


def _generate_request(request: ChatRequest) -> GenerateRequest:
    max_tokens = _max_tokens(request)
    min_tokens = request.min_tokens or 0
    if max_tokens is not None and min_tokens > max_tokens:
        detail = f"'min_tokens' is {min_tokens}, but an answer may have {max_tokens} tokens at most."
        raise FieldError(param="min_tokens", code="invalid_value", detail=detail)
    return GenerateRequest(
        model=request.model,
        prompt=ChatPrompt(to_messages(request.messages)),
        sampling=_sampling(request),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        guidance=to_guidance(request),
        top_logprobs=_top_logprobs(request),
        ttl_s=request.ttl,
        provider=request.ep,
    )


def _check_stream_options(request: ChatRequest) -> None:
    options = request.stream_options
    if options is None:
        return
    if not request.stream:
        detail = "'stream_options' can only be used together with 'stream': true."
        raise FieldError(param="stream_options", code="invalid_value", detail=detail)
    if options.include_obfuscation:
        raise unsupported("stream_options.include_obfuscation", "chunks are never padded")


def _max_tokens(request: ChatRequest) -> int | None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        detail = f"'max_tokens' is {old} and 'max_completion_tokens' is {new}: send only the latter."
        raise FieldError(param="max_tokens", code="invalid_value", detail=detail)
    return old if new is None else new


def _top_logprobs(request: ChatRequest) -> int | None:
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        detail = "'top_logprobs' can only be used together with 'logprobs': true."
        raise FieldError(param="top_logprobs", code="invalid_value", detail=detail)
    return None


def _sampling(request: ChatRequest) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_k=None if request.top_k is None else max(request.top_k, 0),
        # 0 asks for the smallest set of tokens, which is the likeliest one alone; the engine's range begins above 0
        top_p=None if request.top_p is None else max(request.top_p, _SMALLEST_TOP_P),
        min_p=request.min_p or 0.0,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        logit_bias=request.logit_bias or {},
        seed=request.seed,
    )


def _tools(request: ChatRequest) -> Iterator[FunctionTool]:
    known: set[str] = set()
    for i, tool in enumerate(request.tools or ()):
        if isinstance(tool, CustomToolParam):
            raise unsupported(f"tools[{i}].type", NO_CUSTOM_TOOLS)
        function = tool.function
        if function.name in known:
            param = f"tools[{i}].function.name"
            raise FieldError(param=param, code="invalid_value", detail=f"There are two tools named '{function.name}'.")
        known.add(function.name)
        yield FunctionTool(function.name, function.description or "", function.parameters, bool(function.strict))


def _tool_choice(request: ChatRequest, tools: tuple[FunctionTool, ...]) -> tuple[ToolChoice, tuple[FunctionTool, ...]]:
    """Return the choice, and the tools that it leaves."""
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return choice or "auto", tools
    if isinstance(choice, CustomToolChoice):
        raise unsupported("tool_choice.type", NO_CUSTOM_TOOLS)
    if not tools:
        detail = "'tool_choice' can only be used together with 'tools'."
        raise FieldError(param="tool_choice", code="invalid_value", detail=detail)
    by_name = {tool.name: tool for tool in tools}
    if isinstance(choice, NamedToolChoice):
        return NamedFunction(_known(choice, "tool_choice.function.name", by_name).name), tools
    if isinstance(choice, AllowedToolsChoice):
        allowed = choice.allowed_tools
        where = "tool_choice.allowed_tools.tools"
        left = tuple(_known(one, f"{where}[{i}].function.name", by_name) for i, one in enumerate(allowed.tools))
        if not left:
            raise FieldError(param=where, code="invalid_value", detail=f"'{where}' is empty.")
        return allowed.mode, left
    return choice, tools


def _known(choice: NamedToolChoice, param: str, by_name: dict[str, FunctionTool]) -> FunctionTool:
    name = choice.function.name
    if name not in by_name:
        detail = f"'{param}' is '{name[:80]}', and there is no such function among the tools."
        raise FieldError(param=param, code="invalid_value", detail=detail)
    return by_name[name]
