"""Conversion of a request's guidance into a grammar of llguidance, with precise errors for invalid guidance."""

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from llguidance import LLMatcher

from cupola.errors import InvalidParameterError
from cupola.provider import Guidance

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_COMPACT: "JsonCompileOptions" = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_flexible": False,
    "lenient": False,
}
"""Compact JSON. If whitespace is allowed, small models may generate it without end."""

_MOST_TRIES = 200
"""Maximum number of subschemas that are compiled to locate an error."""

_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SCHEMAS = ("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else")
_POSITION_INSIDE = re.compile(r'^at \d+\(\d+\): invalid regex ".*?" \(in regex\): ', re.DOTALL)


def grammar_of(guidance: Guidance) -> str:
    """Return the grammar of a guidance, as llguidance reads it.

    Raises:
        InvalidParameterError: The guidance is invalid; the detail gives the reason and the position.
    """
    try:
        match guidance.kind:
            case "json_object":
                return _from_schema({"type": "object"})
            case "json_schema":
                return _json_schema(guidance.text)
            case "regex":
                return _regex(guidance.text)
            case "lark":
                return _lark(guidance.text)
            case "choice":
                return _choice(guidance.text)
    except ValueError as error:
        detail = f"{guidance.param} cannot be used: {error}."
        raise InvalidParameterError(param=guidance.param, detail=detail) from error


def literals(guidance: Guidance) -> Iterator[str]:
    """Yield the literal strings of a schema or choice, as an answer would contain them."""
    if guidance.kind == "choice":
        yield from msgspec.json.decode(guidance.text)
    elif guidance.kind == "json_schema":
        schema = msgspec.json.decode(guidance.text)
        for text in _literals(schema) if isinstance(schema, dict) else ():
            yield msgspec.json.encode(text).decode()


def format_message(message: str) -> str:
    """Return the readable part of a message of llguidance."""
    text = re.split(r"\n<(?:state|non-verbose)", message, maxsplit=1)[0].strip()
    return "no token sequence of this model conforms to it" if text.startswith("NoExtension") else text


def _json_schema(text: str) -> str:
    schema = _decode(text, "JSON schema")
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise ValueError("the JSON schema is not an object")
    schema.pop("x-guidance", None)  # llguidance's own options, which could override ours
    if problem := _problem(schema):
        raise ValueError(f"the JSON schema is invalid at {_place(schema, problem)}: {problem}")
    return _from_schema(schema)


def _regex(text: str) -> str:
    grammar = LLMatcher.grammar_from_regex(text)
    if message := LLMatcher.validate_grammar(grammar):
        problem = _POSITION_INSIDE.sub("", format_message(message)).split("\n   1 | ")[0]
        raise ValueError(f"the regular expression is invalid: {problem}")
    return str(grammar)


def _lark(text: str) -> str:
    grammar = LLMatcher.grammar_from_lark(text)
    if message := LLMatcher.validate_grammar(grammar):
        raise ValueError(f"the Lark grammar is invalid: {format_message(message)}")
    return str(grammar)


def _choice(text: str) -> str:
    choices = _decode(text, "list of choices")
    if not (isinstance(choices, list) and choices and all(isinstance(choice, str) for choice in choices)):
        raise ValueError("the choices are not a list of strings, at least one")
    return _lark("start: " + " | ".join(json.dumps(choice) for choice in choices))


def _decode(text: str, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the {what} is not JSON ({error})") from error


def _from_schema(schema: dict[str, Any]) -> str:
    return str(LLMatcher.grammar_from_json_schema(msgspec.json.encode(schema).decode(), overrides=_COMPACT))


def _problem(schema: dict[str, Any]) -> str:
    return format_message(LLMatcher.validate_grammar(_from_schema(schema)))


def _place(schema: dict[str, Any], problem: str) -> str:
    """Return a JSON pointer to the innermost subschema that has this problem by itself."""
    place, tries = "#", count(1)
    definitions: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inside: dict[str, Any] | None = schema
    while inside is not None:
        parts, inside = _parts(inside), None
        for name, part in parts:
            if next(tries) > _MOST_TRIES:
                break
            if _problem({**definitions, **part}) == problem:
                place, inside = f"{place}/{name}", part
                break
    return place


def _literals(schema: dict[str, Any]) -> Iterator[str]:
    yield from _texts([schema.get("const"), schema.get("enum"), [name for name, _ in _items(schema.get("properties"))]])
    for _, part in _parts(schema):
        yield from _literals(part)


def _texts(value: Any) -> Iterator[str]:
    """Yield all strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and values of the direct subschemas of a schema."""
    named = [(f"{key}/{_escape(name)}", part) for key in _NAMED_SCHEMAS for name, part in _items(schema.get(key))]
    listed = [(f"{key}/{at}", part) for key in _LISTED_SCHEMAS for at, part in enumerate(_list(schema.get(key)))]
    single = [(key, schema.get(key)) for key in _SCHEMAS]
    return ((name, part) for name, part in (*named, *listed, *single) if isinstance(part, dict))


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
