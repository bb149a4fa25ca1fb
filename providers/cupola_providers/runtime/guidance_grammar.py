"""From what a request asks for to a grammar for llguidance, or to a sentence that says where it is wrong."""

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
"""JSON without whitespace between its tokens. Where it is free, small models write it without end."""

_MOST_TRIES = 200
"""The place of a mistake is looked for in so many parts of a schema."""

_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SCHEMAS = ("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else")
_POSITION_INSIDE = re.compile(r'^at \d+\(\d+\): invalid regex ".*?" \(in regex\): ', re.DOTALL)


def grammar_of(guidance: Guidance) -> str:
    """Write the grammar.

    Raises:
        InvalidParameterError: Says what is wrong, and where.
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
        detail = f"{guidance.param} cannot be honoured: {error}."
        raise InvalidParameterError(param=guidance.param, detail=detail) from error


def literals(guidance: Guidance) -> Iterator[str]:
    """Iterate over the texts that a schema or a choice spells out, as an answer would have to write them."""
    if guidance.kind == "choice":
        yield from msgspec.json.decode(guidance.text)
    elif guidance.kind == "json_schema":
        schema = msgspec.json.decode(guidance.text)
        for text in _literals(schema) if isinstance(schema, dict) else ():
            yield msgspec.json.encode(text).decode()


def said(message: str) -> str:
    """Return the part of a message of llguidance that is for people."""
    text = re.split(r"\n<(?:state|non-verbose)", message, maxsplit=1)[0].strip()
    return "nothing that this model can write conforms to it" if text.startswith("NoExtension") else text


def _json_schema(text: str) -> str:
    schema = _decoded(text, "JSON schema")
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise ValueError("the JSON schema is not an object")
    schema.pop("x-guidance", None)  # llguidance's own options, which could undo ours
    if problem := _problem(schema):
        raise ValueError(f"the JSON schema is refused at {_place(schema, problem)}: {problem}")
    return _from_schema(schema)


def _regex(text: str) -> str:
    grammar = LLMatcher.grammar_from_regex(text)
    if message := LLMatcher.validate_grammar(grammar):
        problem = _POSITION_INSIDE.sub("", said(message)).split("\n   1 | ")[0]
        raise ValueError(f"the regular expression is not understood: {problem}")
    return str(grammar)


def _lark(text: str) -> str:
    grammar = LLMatcher.grammar_from_lark(text)
    if message := LLMatcher.validate_grammar(grammar):
        raise ValueError(f"the Lark grammar is not understood: {said(message)}")
    return str(grammar)


def _choice(text: str) -> str:
    choices = _decoded(text, "list of choices")
    if not (isinstance(choices, list) and choices and all(isinstance(choice, str) for choice in choices)):
        raise ValueError("the choices are not a list of strings, at least one")
    return _lark("start: " + " | ".join(json.dumps(choice) for choice in choices))


def _decoded(text: str, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the {what} is not JSON ({error})") from error


def _from_schema(schema: dict[str, Any]) -> str:
    return str(LLMatcher.grammar_from_json_schema(msgspec.json.encode(schema).decode(), overrides=_COMPACT))


def _problem(schema: dict[str, Any]) -> str:
    return said(LLMatcher.validate_grammar(_from_schema(schema)))


def _place(schema: dict[str, Any], problem: str) -> str:
    """Return a JSON pointer to the innermost schema that has this problem also by itself."""
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
    """Iterate over the strings in any JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over the schemas right inside a schema."""
    named = [(f"{key}/{_escaped(name)}", part) for key in _NAMED_SCHEMAS for name, part in _items(schema.get(key))]
    listed = [(f"{key}/{at}", part) for key in _LISTED_SCHEMAS for at, part in enumerate(_list(schema.get(key)))]
    single = [(key, schema.get(key)) for key in _SCHEMAS]
    return ((name, part) for name, part in (*named, *listed, *single) if isinstance(part, dict))


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
