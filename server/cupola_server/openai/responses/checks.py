"""What a request may not ask for, each with the reason."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.responses.schema import InputTokensRequest, ResponseRequest, RetrieveQuery

LOGPROBS = "message.output_text.logprobs"

_NO_CLOUD = "it names a service of OpenAI that does not exist here"
_NO_PADDING = "events are never padded"
_NO_SUMMARY = "thoughts are given whole, as the content of reasoning items, and never summarised"
_NO_CALLERS = "functions are called by the model alone"

# Field: the values that ask for nothing beside the default, and why no other one is possible.
_Refused = Mapping[str, tuple[tuple[object, ...], str]]
_REQUEST: _Refused = {
    "access_programs": ((None,), _NO_CLOUD),
    "background_options": ((None, {}, {"completion_window": "soonest"}), "background responses start at once"),
    "context_management": ((None, []), "conversations are never compacted"),
    "conversation": ((None,), "conversations are continued with 'previous_response_id'"),
    "image": ((None,), "models here read text only"),
    "moderation": ((None,), _NO_CLOUD),
    "prompt": ((None,), "prompts are not stored here; send 'instructions' and 'input'"),
    "prompt_cache_options": ((None,), "the KV cache is managed by the service alone"),
    "prompt_cache_retention": ((None, "in_memory"), "the KV cache lives in memory only"),
    "service_tier": ((None, "auto", "default"), "there is one tier"),
    "truncation": ((None, "disabled"), "nothing is dropped from a conversation; send less of it when it is too long"),
}
_REASONING: _Refused = {
    "context": ((None, "auto"), "the model's template decides which thoughts it is shown again"),
    "generate_summary": ((None,), _NO_SUMMARY),
    "mode": ((None, "standard"), "there is one mode"),
    "summary": ((None,), _NO_SUMMARY),
}
_TEXT: _Refused = {
    "verbosity": ((None, "medium"), "the length of answers cannot be steered; use 'max_output_tokens'"),
}
_TOOL: _Refused = {
    "allowed_callers": ((None, ["direct"]), _NO_CALLERS),
    "defer_loading": ((None, False), "every tool is shown to the model at once"),
    "is_async": ((None, False), "calls are answered in the next request"),
    "output_schema": ((None,), _NO_CALLERS),
}
_COUNTED: _Refused = {
    "personality": ((None,), "models here have no styles to choose from; describe one in 'instructions'")
}
_RETRIEVED: _Refused = {
    "include_obfuscation": ((None, False), _NO_PADDING),
    "starting_after": ((None,), "it belongs to 'stream', and stored responses are not streamed again"),
    "stream": ((None, False), "stored responses are not streamed again; ask for the response until it is complete"),
}


def check(request: ResponseRequest) -> None:
    """See that everything a request asks for can be honoured.

    Raises:
        FieldError: Names the first field that cannot.
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
        raise unsupported("stream", "a background response is asked for until it is complete")


def check_count(request: InputTokensRequest) -> None:
    """See that a prompt can be counted as asked, beside what `check` looks at.

    Raises:
        FieldError: Names the field that cannot be honoured.
    """
    _check(request, _COUNTED)


def check_retrieval(query: RetrieveQuery) -> None:
    """See that a stored response can be shown as asked.

    Raises:
        FieldError: Names the first parameter that cannot be honoured.
    """
    check_include(query.include)
    _check(query, _RETRIEVED)


def check_include(include: Sequence[str]) -> None:
    """See that everything that is to be included is something we have.

    Raises:
        FieldError: It is not.
    """
    for name in include:
        if name != LOGPROBS:
            raise unsupported("include", f"there is no {name!r} here, only {LOGPROBS!r}")


def _check(asked: Struct | None, refused: _Refused, prefix: str = "") -> None:
    for name, (accepted, reason) in refused.items() if asked is not None else ():
        if getattr(asked, name) not in accepted:
            shown = "async" if name == "is_async" else name
            raise unsupported(f"{prefix}{shown}", reason)


def _contradiction(param: str, detail: str) -> FieldError:
    return FieldError(param=param, code="invalid_value", detail=detail)
