"""Finds function calls in the text of an answer while it is generated. Text that is not a call is kept as text."""

import re
from collections.abc import Collection, Sequence
from typing import Protocol

from cupola_server.openai.reasoning import overlap
from cupola_server.openai.tools.call_reader import CallPart, CallReader

_BEFORE = re.compile(r"[\s\[]*")
_BETWEEN = re.compile(r"[\s,;\]}]*")
_BEFORE_FIRST = re.compile(r"\s*(?:```(?:json)?\s*)?\[?\s*")
_FENCE = "```json"
_NAME = re.compile(r"(?P<name>[\w.-]{1,64})(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?(?=\{)")
_PART_OF_NAME = re.compile(r"[\w.-]{1,64}(?:\[[\w\[\]]{0,40})?")


class CallParser(Protocol):
    """Separates the calls of one answer from its text."""

    def feed(self, text: str) -> Sequence[str | CallPart]:
        """Process more text. Returns the text and parts of calls that are certain so far, in order."""

    def finish(self) -> Sequence[str | CallPart]:
        """Return what was held back, at the end of the answer."""


class JsonCallParser:
    """Finds calls written as JSON, after a marker or at the start of an answer.

    An opening marker is followed by an object, several objects or a list of objects, and an optional closing marker.

    Args:
        openings: Markers before calls.
        closing: The marker after calls; empty if there is none.
        leading: Function names. An object at the start of the answer that calls one of them counts as a call without
            a marker. None accepts calls after markers only.
        named: Whether the marker may be followed by a name and then the arguments.
    """

    def __init__(
        self, openings: Sequence[str], closing: str = "", leading: Collection[str] | None = None, *, named: bool = False
    ) -> None:
        self._opening = re.compile("|".join(map(re.escape, openings))) if openings else None
        self._openings = tuple(openings)
        self._closing = closing
        self._endings = tuple(filter(None, (closing, "" if leading is None else "```")))
        self._names = leading
        self._named = named
        self._called = False
        self._held = ""  # received, but not parsed yet
        self._raw = ""  # parsed, but becomes text if it is not a call
        self._reader: CallReader | None = None
        self._step = self._text if leading is None else self._start
        self._parts: list[str | CallPart] = []

    def feed(self, text: str) -> Sequence[str | CallPart]:
        """Process more text. Returns the text and parts of calls that are certain so far, in order."""
        self._held += text
        while self._held and self._step():
            pass
        return self._take_parts()

    def finish(self) -> Sequence[str | CallPart]:
        """Return what was held back, at the end of the answer."""
        reader, self._reader = self._reader, None
        if reader and not reader.opened:
            self._raw += reader.raw
        # after a call, drop newlines, brackets and the start of another call
        if not self._called or (self._step == self._text and not self._held.isspace()):
            self._emit(self._raw + self._held)
        self._raw = self._held = ""
        return self._take_parts()

    # Each step consumes part of `_held` and returns whether the next step can continue immediately.

    def _start(self) -> bool:
        """At the start: look for a call without a marker."""
        text = self._held.lstrip()
        if not text or _may_become(text, (_FENCE, *self._openings)):
            return False
        before = _BEFORE_FIRST.match(self._held)
        rest = self._held[before.end() :] if before else self._held
        if not rest:
            return False
        self._step = self._text
        if rest.startswith("{"):
            self._raw, self._held = self._held[: -len(rest)], rest
            self._begin_object(self._names)
        return True

    def _text(self) -> bool:
        """In text: look for a marker."""
        found = self._opening.search(self._held) if self._opening else None
        if found:
            before = self._held[: found.start()]
            self._emit(before.rstrip())
            self._raw = before[len(before.rstrip()) :] + found.group()
            self._held = self._held[found.end() :]
            self._step = self._block
            return True
        certain = self._held[: len(self._held) - overlap(self._held, *self._openings)]
        if self._opening:
            certain = certain.rstrip()
        self._emit(certain)
        self._held = self._held[len(certain) :]
        return False

    def _block(self) -> bool:
        """Between calls: look for another call or the end."""
        gap = (_BEFORE if self._raw else _BETWEEN).match(self._held)
        rest = self._held[gap.end() :] if gap else self._held
        if not rest or _may_become(rest, self._endings):
            return False
        if rest.startswith("{"):
            names = None if self._raw else self._names
            self._raw, self._held = self._raw + self._held[: -len(rest)], rest
            self._begin_object(names)
            return True
        if self._named and self._raw:
            if found := _NAME.match(rest):
                self._held = rest[found.end() :]
                self._begin_object(None, found["name"])
                return True
            if _PART_OF_NAME.fullmatch(rest):
                return False
        ending = next((ending for ending in self._endings if rest.startswith(ending)), "")
        if self._raw:  # a marker without a call
            self._emit(self._raw)
            self._raw = ""
        else:
            self._held = rest.removeprefix(ending)
        self._step = self._text
        return True

    def _begin_object(self, names: Collection[str] | None, name: str = "") -> None:
        self._reader = CallReader(self._closing, names, name)
        self._step = self._object

    def _object(self) -> bool:
        """In a call: parse it."""
        reader = self._reader
        assert reader is not None
        parts, self._held = reader.feed(self._held)
        self._parts += parts
        if reader.opened:
            self._raw, self._called = "", True
        if reader.failed:
            self._emit(self._raw + reader.raw)
            self._raw = ""
        if reader.done or reader.failed:
            self._reader = None
            self._step = self._block if reader.done else self._text
        return bool(self._held)

    def _emit(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def _take_parts(self) -> Sequence[str | CallPart]:
        parts, self._parts = self._parts, []
        return parts


def _may_become(text: str, markers: Sequence[str]) -> bool:
    return any(marker != text and marker.startswith(text) for marker in markers)
