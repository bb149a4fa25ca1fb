"""Decodes request bodies and query strings to Structs, with errors that name the field as the client wrote it."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from cupola.errors import RequestError
from cupola_server.openai.errors import BodyError, FieldError

T = TypeVar("T")
Q = TypeVar("Q", bound=Struct)
# msgspec's error messages, because it has no structured errors. Tests check every form.
_LOCATED = re.compile(r"(?P<problem>.*) - at (?P<key>`key` in )?`\$\.?(?P<path>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<types>[^`]+)`(?:, got `(?P<got>\w+)`)?")
_LENGTH = re.compile(r"Expected `(?P<type>\w+)` of length (?P<sign><=|>=) (?P<number>\d+)")
_RANGE = re.compile(r"Expected `(?P<type>\w+)` (?P<sign><=|>=|<|>) (?P<number>[-\d.e+]+)")
_PATTERN = re.compile(r"Expected `str` matching regex '(?P<pattern>.*)'", re.DOTALL)
_VALUE = re.compile(r"Invalid (?:enum )?value (?P<value>.*)", re.DOTALL)
_TYPES = {
    "array": "an array",
    "bool": "a boolean",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
_GOT = {**_TYPES, "float": "a decimal number"}
_SIGNS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
_CHOICES = {
    r"messages\[\d+\]\.role": "system, developer, user, assistant and tool",
    r"messages\[\d+\]\.content\[\d+\]\.type": "text",
    r"messages\[\d+\]\.tool_calls\[\d+\]\.type": "function",
    r"tools\[\d+\]\.type": "function",
    r"tool_choice": "auto, none, required, or an object that names a function",
    r"tool_choice\.type": "function and allowed_tools",
    r"tool_choice\.allowed_tools\.mode": "auto and required",
    r"response_format\.type": "text, json_object and json_schema",
    r"reasoning_effort": "none, minimal, low, medium, high, xhigh and max",
}
_MAX_ECHO = 80
DEPTH_LIMIT = 100
"""Maximum nesting of objects and arrays. OpenAI accepts schemas of up to 10 levels."""
# At each position only one branch can match, and an unterminated string matches too, so this takes linear time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\x00\x00")
_MAX_PARAMETERS = 64


class BodyDecoder(Generic[T]):
    """Decodes bodies to a type."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | bytearray) -> T:
        """Decode a body.

        Raises:
            BodyError: The body is not a JSON object in UTF-8, or is nested too deeply.
            FieldError: A field is missing, unknown or invalid.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _to_error(str(error)) from None
        except msgspec.DecodeError as error:
            raise BodyError(detail=f"The body is not valid JSON. {_sentence(str(error))}") from None
        except UnicodeDecodeError:
            raise BodyError(detail="The body is not valid JSON. It contains bytes that are not UTF-8.") from None
        except RecursionError:
            raise BodyError(detail="The body is nested too deeply.") from None


def decode_query(query_string: bytes, kind: type[Q]) -> Q:
    """Decode a query string to a Struct of plain fields and lists.

    A list is a repeated parameter, with or without "[]" after its name.

    Raises:
        FieldError: A parameter is unknown, repeated, missing or invalid.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, str | list[str]] = {}
    for written, value in _parse_pairs(query_string):
        name = written.removesuffix("[]")
        if name not in fields:
            raise FieldError(param=name, code="unknown_parameter", detail=f"Unknown parameter '{name[:80]}'.")
        if _is_list(fields[name].type):
            values.setdefault(name, []).append(value)  # type: ignore[union-attr]
        elif values.setdefault(name, value) != value:
            raise FieldError(param=name, code="invalid_value", detail=f"'{name}' is given more than once.")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`").partition("[")[0] or problem.rpartition("field `")[2].rstrip("`")
        raise FieldError(param=name, code="invalid_value", detail=f"Invalid value for '{name}': {problem}.") from None


def is_too_deep(body: bytes | bytearray) -> bool:
    """Whether JSON is nested deeper than `DEPTH_LIMIT`, before any recursive code processes it.

    Takes linear time, and almost none if there are few brackets.
    """
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return False
    steps = _STRINGS.sub(b"", body).translate(_STEPS, _NO_BRACKETS)
    return any(depth > DEPTH_LIMIT for depth in accumulate(step or -1 for step in steps))


def _to_error(text: str) -> RequestError:
    located = _LOCATED.fullmatch(text)
    problem, path = (located["problem"], located["path"]) if located else (text, "")
    if found := _MISSING.fullmatch(problem):
        param = _join(path, found["name"])
        return FieldError(param=param, code="missing_required_parameter", detail=f"'{param}' is missing.")
    if found := _UNKNOWN.fullmatch(problem):
        param = _join(path, _shorten(found["name"]))
        return FieldError(param=param, code="unknown_parameter", detail=f"Unknown parameter '{param}'.")
    param = path.replace("[...]", "")
    if not param:
        return BodyError(detail="The body must be a JSON object.")
    where = f"{'a key of ' if located and located['key'] else ''}{'a value of ' if param != path else ''}"
    name = f"{where}'{param}'"
    if found := _EXPECTED.fullmatch(problem):
        return FieldError(
            param=param, code="invalid_type", detail=f"Invalid type for {name}: {_describe_types(found)}."
        )
    return FieldError(
        param=param, code="invalid_value", detail=f"Invalid value for {name}: {_describe_value(problem, param)}."
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _describe_types(found: re.Match[str]) -> str:
    names = [_TYPES.get(name, name) for name in found["types"].split(" | ")]
    expected = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    got = found["got"]
    return f"expected {expected}, but got {_GOT.get(got, got)}" if got else f"expected {expected}"


def _describe_value(problem: str, param: str) -> str:
    if found := _LENGTH.fullmatch(problem):
        unit = ("character" if found["type"] == "str" else "item") + ("" if found["number"] == "1" else "s")
        return f"expected {_TYPES[found['type']]} of {_SIGNS[found['sign']]} {found['number']} {unit}"
    if found := _RANGE.fullmatch(problem):
        number = found["number"].removesuffix(".0")
        return f"expected {_TYPES.get(found['type'], 'a value')} of {_SIGNS[found['sign']]} {number}"
    if found := _PATTERN.fullmatch(problem):
        return f"expected a string that matches {found['pattern']}"
    if found := _VALUE.fullmatch(problem):
        choices = next((known for place, known in _CHOICES.items() if re.fullmatch(place, param)), "")
        known = f"; supported: {choices}" if choices else ""
        return f"{_shorten(found['value'])} is not supported{known}"
    return _shorten(problem[:1].lower() + problem[1:])


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_ECHO else text[:_MAX_ECHO] + "…"


def _sentence(problem: str) -> str:
    """Turn msgspec's message about invalid JSON into a sentence."""
    if "truncated" in problem:
        return "It ends unexpectedly."
    detail = problem.removeprefix("JSON is malformed: ")
    return f"{detail[:1].upper()}{detail[1:]}."


def _parse_pairs(query_string: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        detail = f"The query of the URL has more than {_MAX_PARAMETERS} parameters, or invalid characters."
        raise FieldError(param="query", code="invalid_value", detail=detail) from None


def _is_list(annotation: object) -> bool:
    kind = msgspec.inspect.type_info(annotation)
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    lists = (msgspec.inspect.ListType, msgspec.inspect.VarTupleType, msgspec.inspect.SetType)
    return any(isinstance(kind, lists) for kind in kinds)
