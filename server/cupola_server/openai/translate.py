"""From OpenAI's request to the engine's. What cannot be honoured stops here, by name."""

from cupola import ChatPrompt, GenerateRequest, Message, Sampling
from cupola_server.openai.errors import FieldError
from cupola_server.openai.schema import (
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    Content,
    FunctionMessage,
    Part,
    RefusalPart,
    TextPart,
    ToolMessage,
)

_NO_TOOLS = "tool calling is not available in this version"
_NO_LOGPROBS = "log probabilities are not available in this version"
_TEXT_ONLY = "models here answer with text only"
_NO_CLOUD = "it names a service of OpenAI that does not exist here"

# Field: the values that ask for nothing beside the default, and why no other one is possible.
_REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "audio": ((None,), _TEXT_ONLY),
    "function_call": ((None, "none"), _NO_TOOLS),
    "functions": ((None, []), _NO_TOOLS),
    "logprobs": ((None, False), _NO_LOGPROBS),
    "modalities": ((None, ["text"]), _TEXT_ONLY),
    "moderation": ((None,), _NO_CLOUD),
    "n": ((None, 1), "a request gets one answer in this version; send several requests instead"),
    "prediction": ((None,), "predicted outputs are not available"),
    "prompt_cache_options": ((None,), "the KV cache is managed by the service alone"),
    "prompt_cache_retention": ((None, "in_memory"), "the KV cache lives in memory only"),
    "reasoning_effort": ((None,), "reasoning cannot be steered in this version"),
    "response_format": ((None, {"type": "text"}), "structured output is not available in this version"),
    "service_tier": ((None, "auto", "default"), "there is one tier"),
    "store": ((None, False), "completions are not stored"),
    "tool_choice": ((None, "none"), _NO_TOOLS),
    "tools": ((None, []), _NO_TOOLS),
    "top_logprobs": ((None, 0), _NO_LOGPROBS),
    "verbosity": ((None, "medium"), "the length of answers cannot be steered; use 'max_completion_tokens'"),
    "web_search_options": ((None,), _NO_CLOUD),
}
_SMALLEST_TOP_P = 1e-6


def to_generate_request(request: ChatRequest) -> GenerateRequest:
    """Translate a request.

    Raises:
        FieldError: Names the field that cannot be honoured.
    """
    for name, (accepted, reason) in _REFUSED.items():
        if getattr(request, name) not in accepted:
            raise _unsupported(name, reason)
    _check_stream_options(request)
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return GenerateRequest(
        model=request.model,
        prompt=ChatPrompt(tuple(_message(message, f"messages[{i}]") for i, message in enumerate(request.messages))),
        sampling=_sampling(request),
        max_tokens=_max_tokens(request),
        stop=stop,
        ignore_eos=bool(request.ignore_eos),
        ttl_s=request.ttl,
    )


def _check_stream_options(request: ChatRequest) -> None:
    options = request.stream_options
    if options is None:
        return
    if not request.stream:
        detail = "'stream_options' can only be used together with 'stream': true."
        raise FieldError(param="stream_options", code="invalid_value", detail=detail)
    if options.include_obfuscation:
        raise _unsupported("stream_options.include_obfuscation", "chunks are never padded")


def _max_tokens(request: ChatRequest) -> int | None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        detail = f"'max_tokens' is {old} and 'max_completion_tokens' is {new}: send only the latter."
        raise FieldError(param="max_tokens", code="invalid_value", detail=detail)
    return old if new is None else new


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


def _message(message: ChatMessage, where: str) -> Message:
    role = str(message.__struct_config__.tag)
    if isinstance(message, ToolMessage | FunctionMessage):
        raise _unsupported(f"{where}.role", f"{role!r} needs tools, and {_NO_TOOLS}")
    if isinstance(message, AssistantMessage):
        return Message(role, _assistant_text(message, where), message.name)
    role = "system" if role == "developer" else role
    return Message(role, _text(message.content, f"{where}.content"), message.name)


def _assistant_text(message: AssistantMessage, where: str) -> str:
    for name, reason in (("tool_calls", _NO_TOOLS), ("function_call", _NO_TOOLS), ("audio", _TEXT_ONLY)):
        if getattr(message, name) not in (None, []):
            raise _unsupported(f"{where}.{name}", reason)
    if message.content and message.refusal:
        raise _unsupported(f"{where}.refusal", "an assistant's message has either 'content' or 'refusal'")
    if message.content is None and message.refusal is None:
        detail = f"'{where}.content' is missing, and nothing else says what the assistant answered."
        raise FieldError(param=f"{where}.content", code="missing_required_parameter", detail=detail)
    return _text(message.content or message.refusal or "", f"{where}.content", refusals=True)


def _text(content: Content, where: str, *, refusals: bool = False) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_part_text(part, f"{where}[{i}]", refusals) for i, part in enumerate(content))


def _part_text(part: Part, where: str, refusals: bool) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, RefusalPart) and refusals:
        return part.refusal
    kind = part.__struct_config__.tag
    raise _unsupported(f"{where}.type", f"{kind!r} is not a kind of content that a text model can read here")


def _unsupported(param: str, reason: str) -> FieldError:
    return FieldError(param=param, code="unsupported_value", detail=f"'{param}' is not supported: {reason}.")
