"""Reading one call, a JSON object, out of text that comes in pieces."""

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct


class CallOpened(Struct, frozen=True):
    """A call begins: its name is known."""

    name: str


class CallArguments(Struct, frozen=True):
    """More of the arguments of the call that was opened last."""

    text: str


CallPart = CallOpened | CallArguments

# The order that nearly every model keeps: a name, then an object. Whatever differs is read when it is whole.
_HEAD = re.compile(
    r'\s*\{\s*(?:"(?:id|type)"\s*:\s*"[^"]*"\s*,\s*)*'
    r'"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)+")\s*,\s*"(?:arguments|parameters)"\s*:\s*\{',
    re.DOTALL,
)
_FIRST_KEY = re.compile(r'\s*\{\s*"(?P<key>[^"\\]+)"')
_CALL_KEYS = {"name", "type", "id", "function", "arguments", "parameters"}


class Nesting:
    """Where in JSON text one is: how deep, and whether inside a string. Knows no more of JSON than that."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._escaped = False

    def advance(self, character: str) -> None:
        """Go on by one character."""
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
    """Reads one call. Its arguments come out as the model writes them, right or wrong, as soon as the name is known.

    Args:
        closing: What ends a call whose last brackets the model forgot; empty if nothing does.
        names: Names that make an object a call; None takes every name, because a marker said that this is a call.
        name: The call's name if that was read already, so that the object is its arguments.

    Attributes:
        raw: What was read so far, as long as nothing came out; if this turns out to be no call, it is text.
        failed: It is no call.
        done: The call is whole.
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
        """Whether the call's name came out."""
        return self._state not in ("head", "named")

    def feed(self, text: str) -> tuple[list[CallPart], str]:
        """Read on; returns what is certain now, and what follows the call once `done` or `failed`."""
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
        """Whether an object without a marker begins as no call does, so that it need not be held back."""
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
        """Skip what follows the arguments inside the object."""
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
    """Return name and arguments of a call in whole JSON text, whatever the order of its keys."""
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
