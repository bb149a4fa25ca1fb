"""From the fields that ask for a shape of the answer to the engine's guidance."""

from collections.abc import Iterator
from typing import Any

import msgspec

from cupola.frontend import Guidance
from cupola_server.openai.errors import FieldError
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.formats import JsonObjectFormat, JsonSchemaFormat, ResponseFormat, StructuredOutputs


def to_guidance(request: ChatRequest) -> Guidance | None:
    """Return what the answer must conform to; None if nothing is asked for.

    Raises:
        FieldError: Two fields ask for it, or one that is damaged.
    """
    asked = list(_asked(request))
    if len(asked) > 1:
        names = " and ".join(repr(guidance.param) for guidance in asked[:2])
        detail = f"{names} both say what the answer must look like: send only one of them."
        raise FieldError(param=asked[1].param, code="invalid_value", detail=detail)
    return asked[0] if asked else None


def _asked(request: ChatRequest) -> Iterator[Guidance]:
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
            detail = "'structured_outputs' must say one of json, regex, choice, grammar and json_object."
            raise FieldError(param="structured_outputs", code="invalid_value", detail=detail)
        yield from found


def _response_format(asked: ResponseFormat) -> Iterator[Guidance]:
    if isinstance(asked, JsonObjectFormat):
        yield Guidance("json_object", param="response_format")
    elif isinstance(asked, JsonSchemaFormat):
        yield Guidance("json_schema", _json(asked.json_schema.json_schema or {}), "response_format.json_schema.schema")


def _structured(asked: StructuredOutputs, prefix: str) -> Iterator[Guidance]:
    if asked.json is not None:
        text = asked.json if isinstance(asked.json, str) else _json(asked.json)
        yield Guidance("json_schema", _checked(text, f"{prefix}json"), f"{prefix}json")
    if asked.regex is not None:
        yield Guidance("regex", asked.regex, f"{prefix}regex")
    if asked.choice is not None:
        yield Guidance("choice", _json(asked.choice), f"{prefix}choice")
    if asked.grammar is not None:
        yield Guidance("lark", asked.grammar, f"{prefix}grammar")
    if asked.json_object:
        yield Guidance("json_object", param=f"{prefix}json_object")


def _checked(text: str, param: str) -> str:
    """Check that a schema which came as text is JSON."""
    try:
        schema: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        schema = None
    if not isinstance(schema, dict | bool):
        raise FieldError(param=param, code="invalid_value", detail=f"'{param}' is not a JSON schema.")
    return text


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
