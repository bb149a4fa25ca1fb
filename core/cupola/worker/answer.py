"""From the tokens of one answer to its text: decoding, and stop strings that may span tokens."""

from collections.abc import Iterable, Sequence

from cupola.contracts import TextStream


class AnswerText:
    """The text of one answer. Text that may be the beginning of a stop string is held back until that is decided."""

    def __init__(self, stream: TextStream, stop: Sequence[str]) -> None:
        self._stream = stream
        self._stop = tuple(stop)
        self._held = ""
        self.stopped_by: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self.stopped_by is not None

    def push(self, tokens: Iterable[int]) -> str:
        """Add tokens; returns the text that is now certain. After a stop string no more comes."""
        return self._release("".join(map(self._stream.push, tokens)))

    def finish(self) -> str:
        """Return what was still held back, once the answer is over."""
        if self.stopped:
            return ""
        text = self._release(self._stream.flush())
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            cut, self.stopped_by = min(found)
            self._held = ""
            return text[:cut]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a proper beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
