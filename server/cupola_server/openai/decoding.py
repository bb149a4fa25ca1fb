"""From the bytes of a body to a Struct, or to an error that names the field as the client wrote it."""

import re
from typing import Generic, TypeVar

import msgspec

from cupola.errors import RequestError
from cupola_server.openai.errors import BodyError, FieldError

T = TypeVar("T")

# The texts of msgspec's errors, which has no structured ones. Tests pin every form.
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
_LONGEST_ECHO = 80


class BodyDecoder(Generic[T]):
    """Decodes bodies to one type."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | bytearray) -> T:
        """Decode a body.

        Raises:
            BodyError: It is no JSON object, or no UTF-8, or nested too deeply.
            FieldError: It is an object, but one that this type cannot hold.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _explained(str(error)) from None
        except msgspec.DecodeError as error:
            raise BodyError(detail=f"The body is not valid JSON. {_sentence(str(error))}") from None
        except UnicodeDecodeError:
            raise BodyError(detail="The body is not valid JSON. It contains bytes that are not UTF-8.") from None
        except RecursionError:
            raise BodyError(detail="The body is nested too deeply.") from None


def _explained(text: str) -> RequestError:
    located = _LOCATED.fullmatch(text)
    problem, path = (located["problem"], located["path"]) if located else (text, "")
    if found := _MISSING.fullmatch(problem):
        param = _joined(path, found["name"])
        return FieldError(param=param, code="missing_required_parameter", detail=f"'{param}' is missing.")
    if found := _UNKNOWN.fullmatch(problem):
        param = _joined(path, _shortened(found["name"]))
        return FieldError(param=param, code="unknown_parameter", detail=f"There is no parameter '{param}'.")
    param = path.replace("[...]", "")
    if not param:
        return BodyError(detail="The body must be a JSON object.")
    where = f"{'a key of ' if located and located['key'] else ''}{'a value of ' if param != path else ''}"
    name = f"{where}'{param}'"
    if found := _EXPECTED.fullmatch(problem):
        return FieldError(param=param, code="invalid_type", detail=f"Invalid type for {name}: {_types(found)}.")
    return FieldError(param=param, code="invalid_value", detail=f"Invalid value for {name}: {_value(problem, param)}.")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _types(found: re.Match[str]) -> str:
    names = [_TYPES.get(name, name) for name in found["types"].split(" | ")]
    expected = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    got = found["got"]
    return f"expected {expected}, but got {_GOT.get(got, got)}" if got else f"expected {expected}"


def _value(problem: str, param: str) -> str:
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
        known = f"; supported are: {choices}" if choices else ""
        return f"{_shortened(found['value'])} is not known{known}"
    return _shortened(problem[:1].lower() + problem[1:])


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "…"


def _sentence(problem: str) -> str:
    """Make a sentence of what msgspec says about bytes that are no JSON."""
    if "truncated" in problem:
        return "It ends too early."
    detail = problem.removeprefix("JSON is malformed: ")
    return f"{detail[:1].upper()}{detail[1:]}."
