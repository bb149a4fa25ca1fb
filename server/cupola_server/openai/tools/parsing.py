"""Finding calls in the text of an answer, as it comes. Whatever turns out to be no call stays text; nothing is lost."""

import re
from collections.abc import Collection, Sequence
from typing import Protocol

from cupola_server.openai.reasoning import overlap
from cupola_server.openai.tools.reading import CallPart, CallReader

_BEFORE = re.compile(r"[\s\[]*")
_BETWEEN = re.compile(r"[\s,;\]}]*")
_BEFORE_FIRST = re.compile(r"\s*(?:```(?:json)?\s*)?\[?\s*")
_FENCE = "```json"
_NAME = re.compile(r"(?P<name>[\w.-]{1,64})(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?(?=\{)")
_PART_OF_NAME = re.compile(r"[\w.-]{1,64}(?:\[[\w\[\]]{0,40})?")


class CallParser(Protocol):
    """Tells the calls of one answer from its text."""

    def feed(self, text: str) -> Sequence[str | CallPart]:
        """Read on; returns text and parts of calls as far as they are certain, in order."""

    def finish(self) -> Sequence[str | CallPart]:
        """Return what was held back, once the answer is over."""


class JsonCallParser:
    """Finds calls written as JSON: behind a marker, or as the first thing of an answer.

    An opening marker is followed by one object, several, or a list of them, and maybe a closing marker.

    Args:
        openings: Markers that begin calls.
        closing: The marker that ends them; empty if there is none.
        leading: Names of functions; an answer that begins with an object which calls one of them is a call without
            any marker. None looks for markers alone.
        named: The marker may also be followed by a name and then the arguments.
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
        self._held = ""  # read, but not understood yet
        self._raw = ""  # understood, but text again if this turns out to be no call
        self._reader: CallReader | None = None
        self._step = self._text if leading is None else self._start
        self._parts: list[str | CallPart] = []

    def feed(self, text: str) -> Sequence[str | CallPart]:
        """Read on; returns text and parts of calls as far as they are certain, in order."""
        self._held += text
        while self._held and self._step():
            pass
        return self._taken()

    def finish(self) -> Sequence[str | CallPart]:
        """Return what was held back, once the answer is over."""
        reader, self._reader = self._reader, None
        if reader and not reader.opened:
            self._raw += reader.raw
        # behind a call, line ends, brackets or the beginning of another one mean nothing to a reader
        if not self._called or (self._step == self._text and not self._held.isspace()):
            self._emit(self._raw + self._held)
        self._raw = self._held = ""
        return self._taken()

    # Each step takes what it can from `_held`, and says whether it is worth another look.

    def _start(self) -> bool:
        """At the beginning: is this a call without a marker?"""
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
        """In text: wait for a marker."""
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
        """Between calls: another one, or the end of them?"""
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
        if self._raw:  # a marker, and no call behind it
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
        """In a call."""
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

    def _taken(self) -> Sequence[str | CallPart]:
        parts, self._parts = self._parts, []
        return parts


def _may_become(text: str, markers: Sequence[str]) -> bool:
    return any(marker != text and marker.startswith(text) for marker in markers)
