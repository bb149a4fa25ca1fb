"""POST /v1/chat/completions: the endpoint, and the translation of its requests to `ChatParams`."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cupola.frontend import ChatPrompt, EngineView, GenerateRequest, Guidance, Sampling
from cupola_server.openai.conversation import NO_CUSTOM_TOOLS, NO_FUNCTIONS, TEXT_ONLY, to_messages
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.replies import ChunkEncoder, collect, encode_completion
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.fields import JsonObjectFormat, JsonSchemaFormat, ResponseFormat, StructuredOutputs
from cupola_server.openai.schema.tools import AllowedToolsChoice, CustomToolChoice, CustomToolParam, NamedToolChoice
from cupola_server.openai.stream import AnswerStream, multiplex
from cupola_server.openai.stream_events import StreamEvent
from cupola_server.openai.tools import TOOL_FORMATS, FunctionTool, NamedFunction, ToolFormat
from cupola_server.openai.turns import ChatParams, ChatTurns, ToolChoice

_NO_CLOUD = "it belongs to a service of OpenAI that has no local equivalent"

# Field: the accepted values, which do not differ from the default, and why others are refused.
_REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "audio": ((None,), TEXT_ONLY),
    "function_call": ((None, "none"), NO_FUNCTIONS),
    "functions": ((None, []), NO_FUNCTIONS),
    "modalities": ((None, ["text"]), TEXT_ONLY),
    "moderation": ((None,), _NO_CLOUD),
    "prediction": ((None,), "predicted outputs are not supported"),
    "prompt_cache_options": ((None,), "the service manages the KV cache itself"),
    "prompt_cache_retention": ((None, "in_memory"), "the KV cache is kept in memory only"),
    "service_tier": ((None, "auto", "default"), "there is only one tier"),
    "store": ((None, False), "completions are not stored"),
    "verbosity": ((None, "medium"), "verbosity cannot be controlled; use 'max_completion_tokens'"),
    "web_search_options": ((None,), _NO_CLOUD),
}
_MIN_TOP_P = 1e-6


class ChatCompletions:
    """Serves chat completions. A turn is cancelled when its request ends, however it ends.

    Args:
        engine: The engine that runs the requests.
        tool_formats: The supported formats of function calls.
    """

    def __init__(self, engine: EngineView, tool_formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._turns = ChatTurns(engine, tool_formats)
        self._decoder = BodyDecoder(ChatRequest)

    async def create(self, exchange: Exchange) -> None:
        """Handle a request, with or without streaming."""
        request = self._decoder.decode(await exchange.json_body())
        turn = await self._turns.prepare(to_chat_params(request))
        count = request.n or 1
        if request.stream:
            include_usage = bool(request.stream_options and request.stream_options.include_usage)
            async with self._turns.start_choices(turn, count) as streams:
                chunks = ChunkEncoder(streams[0].model.id, choices=count, include_usage=include_usage)
                await exchange.start_events(chunks.opening())
                closing = await _send_chunks(streams, exchange, chunks)
            await exchange.end_events(closing)
        else:
            async with self._turns.start_choices(turn, count) as streams:
                choices, usage = await collect(streams)
            await exchange.reply(200, encode_completion(streams[0].model.id, choices, usage))


def to_chat_params(request: ChatRequest) -> ChatParams:
    """Translate a request.

    Raises:
        FieldError: A field is invalid or not supported.
    """
    for name, (accepted, reason) in _REFUSED.items():
        if getattr(request, name) not in accepted:
            raise unsupported(name, reason)
    _check_stream_options(request)
    tools = tuple(_tools(request))
    choice, tools = _tool_choice(request, tools)
    parallel = request.parallel_tool_calls is not False
    return ChatParams(
        request=_generate_request(request),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        reasoning_effort=request.reasoning_effort,
        template_options=request.chat_template_kwargs or {},
    )


def to_guidance(request: ChatRequest) -> Guidance | None:
    """Return the grammar that the request asks for; None if it asks for none.

    Raises:
        FieldError: Several fields ask for a grammar, or a schema is invalid.
    """
    requested = list(_requested_guidance(request))
    if len(requested) > 1:
        names = " and ".join(repr(guidance.param) for guidance in requested[:2])
        detail = f"{names} both constrain the answer. Send only one of them."
        raise FieldError(param=requested[1].param, code="invalid_value", detail=detail)
    return requested[0] if requested else None


async def _send_chunks(streams: Sequence[AnswerStream], exchange: Exchange, chunks: ChunkEncoder) -> bytes:
    """Send events as they arrive, and return the end of the stream. The engine merges events for a slow client."""

    async def send(index: int, event: StreamEvent) -> None:
        await exchange.send_events(chunks.chunk(index, event))

    return chunks.closing(await multiplex(streams, send))


def _generate_request(request: ChatRequest) -> GenerateRequest:
    max_tokens = _max_tokens(request)
    min_tokens = request.min_tokens or 0
    if max_tokens is not None and min_tokens > max_tokens:
        detail = f"'min_tokens' is {min_tokens}, but the answer is limited to {max_tokens} tokens."
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
        # 0 means the smallest set, the most likely token alone; the engine requires a value above 0
        top_p=None if request.top_p is None else max(request.top_p, _MIN_TOP_P),
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
            raise FieldError(param=param, code="invalid_value", detail=f"Two tools are named '{function.name}'.")
        known.add(function.name)
        yield FunctionTool(function.name, function.description or "", function.parameters, bool(function.strict))


def _tool_choice(request: ChatRequest, tools: tuple[FunctionTool, ...]) -> tuple[ToolChoice, tuple[FunctionTool, ...]]:
    """Return the tool choice and the tools that it allows."""
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
        return NamedFunction(_find_tool(choice, "tool_choice.function.name", by_name).name), tools
    if isinstance(choice, AllowedToolsChoice):
        allowed = choice.allowed_tools
        where = "tool_choice.allowed_tools.tools"
        allowed_tools = tuple(
            _find_tool(tool, f"{where}[{i}].function.name", by_name) for i, tool in enumerate(allowed.tools)
        )
        if not allowed_tools:
            raise FieldError(param=where, code="invalid_value", detail=f"'{where}' is empty.")
        return allowed.mode, allowed_tools
    return choice, tools


def _find_tool(choice: NamedToolChoice, param: str, by_name: dict[str, FunctionTool]) -> FunctionTool:
    name = choice.function.name
    if name not in by_name:
        detail = f"'{param}' is '{name[:80]}', but no tool has this name."
        raise FieldError(param=param, code="invalid_value", detail=detail)
    return by_name[name]


def _requested_guidance(request: ChatRequest) -> Iterator[Guidance]:
    if request.response_format is not None:
        yield from _response_format(request.response_format)
    guided = StructuredOutputs(
        json=request.guided_json,
        regex=request.guided_regex,
        choice=request.guided_choice,
        grammar=request.guided_grammar,
    )
    yield from _structured(guided, "guided_")
    if request.structured_outputs is not None:
        found = list(_structured(request.structured_outputs, "structured_outputs."))
        if not found:
            detail = "'structured_outputs' must contain one of json, regex, choice, grammar and json_object."
            raise FieldError(param="structured_outputs", code="invalid_value", detail=detail)
        yield from found


def _response_format(response_format: ResponseFormat) -> Iterator[Guidance]:
    if isinstance(response_format, JsonObjectFormat):
        yield Guidance("json_object", param="response_format")
    elif isinstance(response_format, JsonSchemaFormat):
        schema = _json(response_format.json_schema.json_schema or {})
        yield Guidance("json_schema", schema, "response_format.json_schema.schema")


def _structured(outputs: StructuredOutputs, prefix: str) -> Iterator[Guidance]:
    if outputs.json is not None:
        text = outputs.json if isinstance(outputs.json, str) else _json(outputs.json)
        yield Guidance("json_schema", _check_schema(text, f"{prefix}json"), f"{prefix}json")
    if outputs.regex is not None:
        yield Guidance("regex", outputs.regex, f"{prefix}regex")
    if outputs.choice is not None:
        yield Guidance("choice", _json(outputs.choice), f"{prefix}choice")
    if outputs.grammar is not None:
        yield Guidance("lark", outputs.grammar, f"{prefix}grammar")
    if outputs.json_object:
        yield Guidance("json_object", param=f"{prefix}json_object")


def _check_schema(text: str, param: str) -> str:
    """Check that a schema in text form is valid JSON."""
    try:
        schema: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        schema = None
    if not isinstance(schema, dict | bool):
        raise FieldError(param=param, code="invalid_value", detail=f"'{param}' is not a JSON schema.")
    return text


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
