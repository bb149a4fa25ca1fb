"""Reads one function call, a JSON object, from text that arrives in parts."""

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct


class CallOpened(Struct, frozen=True):
    """The start of a call; its name is known."""

    name: str


class CallArguments(Struct, frozen=True):
    """More JSON text of the arguments of the current call."""

    text: str


CallPart = CallOpened | CallArguments

# The order that nearly all models use: a name, then an object. Other orders are parsed when the call is complete.
_HEAD = re.compile(
    r'\s*\{\s*(?:"(?:id|type)"\s*:\s*"[^"]*"\s*,\s*)*'
    r'"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)+")\s*,\s*"(?:arguments|parameters)"\s*:\s*\{',
    re.DOTALL,
)
_FIRST_KEY = re.compile(r'\s*\{\s*"(?P<key>[^"\\]+)"')
_CALL_KEYS = {"name", "type", "id", "function", "arguments", "parameters"}


class Nesting:
    """Tracks the nesting depth in JSON text, and whether the position is inside a string."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._escaped = False

    def advance(self, character: str) -> None:
        """Advance by one character."""
        if self.in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self.in_string = False
        elif character == '"':
            self.in_string = True
        elif character in "{[":
            self.depth += 1
        elif character in "}]":
            self.depth -= 1


class CallReader:
    """Reads one call. After the name is known, its arguments are passed on as the model writes them, even if invalid.

    Args:
        closing: The marker that ends a call with missing brackets; empty if there is none.
        names: The names that make an object a call; None accepts any, after a marker.
        name: The call's name if it was read before, so that the object contains the arguments.

    Attributes:
        raw: The text read before the first part was returned; it becomes text if this is not a call.
        failed: Whether the object is not a call.
        done: Whether the call is complete.
    """

    def __init__(self, closing: str = "", names: Collection[str] | None = None, name: str = "") -> None:
        self.raw = ""
        self.failed = False
        self.done = False
        self._closing, self._names = closing, names
        self._nesting = Nesting()
        self._state = "named" if name else "head"
        self._name = name
        self._first_key = ""
        self._tail = ""

    @property
    def opened(self) -> bool:
        """Whether the start of the call was returned."""
        return self._state not in ("head", "named")

    def feed(self, text: str) -> tuple[list[CallPart], str]:
        """Process more text. Returns the certain parts, and the text after the call once `done` or `failed`."""
        parts: list[CallPart] = []
        while text and not (self.done or self.failed):
            match self._state:
                case "named":
                    self._state = "arguments"
                    parts.append(CallOpened(self._name))
                case "head":
                    text = self._head(text, parts)
                case "arguments":
                    text = self._arguments(text, parts)
                case _:
                    text = self._skip(text)
        return parts, text

    def _head(self, text: str, parts: list[CallPart]) -> str:
        before = self.raw
        for at, character in enumerate(text):
            self._nesting.advance(character)
            if self._nesting.in_string or character not in '"{}':
                continue
            self.raw = before + text[: at + 1]
            if character == "{" and self._nesting.depth == 2:
                self._open(parts)
            elif character == '"':
                self.failed = self._is_hopeless()
            elif self._nesting.depth <= 0:
                self._read_whole(parts)
            if self.opened or self.failed:
                return text[at + 1 :]
        self.raw = before + text
        return ""

    def _is_hopeless(self) -> bool:
        """Whether an object without a marker cannot be a call, so that it need not be held back."""
        if self._names is None or self._first_key:
            return False
        first = _FIRST_KEY.match(self.raw)
        self._first_key = first["key"] if first else "?"
        return self._first_key not in _CALL_KEYS

    def _open(self, parts: list[CallPart]) -> None:
        head = _HEAD.fullmatch(self.raw)
        name = _text_of(head["name"]) if head else ""
        if not head or not name:
            return
        if not self._is_known(name):
            self.failed = True
            return
        self._state = "arguments"
        parts += [CallOpened(name), CallArguments("{")]

    def _arguments(self, text: str, parts: list[CallPart]) -> str:
        end = 0 if self._name else 1
        for at, character in enumerate(text):
            self._nesting.advance(character)
            if self._nesting.depth == end:
                self._state, self.done = "tail", bool(self._name)
                parts.append(CallArguments(text[: at + 1]))
                return text[at + 1 :]
        parts.append(CallArguments(text))
        return ""

    def _skip(self, text: str) -> str:
        """Skip the rest of the object after the arguments."""
        for at, character in enumerate(text):
            self._nesting.advance(character)
            self._tail += character
            if self._nesting.depth <= 0 and not self._nesting.in_string:
                self.done = True
                return text[at + 1 :]
            if self._closing and self._tail.endswith(self._closing):
                self.done = True
                return self._closing + text[at + 1 :]
        return ""

    def _read_whole(self, parts: list[CallPart]) -> None:
        call = _call_in(self.raw)
        if call is None or not self._is_known(call[0]):
            self.failed = True
            return
        self._state, self.done = "tail", True
        parts += [CallOpened(call[0]), CallArguments(call[1])]

    def _is_known(self, name: str) -> bool:
        return bool(name) and (self._names is None or name in self._names)


def _text_of(literal: str) -> str:
    try:
        return msgspec.json.decode(literal, type=str)
    except msgspec.DecodeError:
        return ""


def _call_in(text: str) -> tuple[str, str] | None:
    """Return name and arguments of a call from complete JSON text, with keys in any order."""
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = value.get("name", value.get("function"))
    arguments = value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or not isinstance(arguments, str | dict | None):
        return None
    return name, arguments if arguments and isinstance(arguments, str) else _json(arguments or {})


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
