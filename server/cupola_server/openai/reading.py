"""Telling the pieces of one answer apart as its text comes: reasoning, calls, and what is meant for the reader."""

import re
from collections.abc import Callable, Iterable, Sequence

from cupola.frontend import TokenLogprob, TurnText
from cupola_server.openai.pieces import ContentDelta, Piece, ReasoningDelta, ToolArgumentsDelta, ToolCallStarted
from cupola_server.openai.reasoning import ReasoningSplitter
from cupola_server.openai.tools import CallOpened, CallParser, CallPart

# Tokens that end things. Where special tokens are asked for because markers are among them, these come along.
_ENDINGS = re.compile(
    r"<\|(?:im_start|im_end|eot_id|eom_id|end|endoftext|end_of_text|return|call)\|>|</?s>|<eos>|<(?:end_of_turn|turn\|)>"
)


class AnswerReader:
    """Reads one answer.

    Args:
        splitter: Tells reasoning from the rest; None if all of it is the answer.
        parser: Tells calls from the rest; None if no function was offered.
        call_id: Makes an id for a call.
        special_tokens: The text has special tokens.
        logprobs: Its events bring log probabilities.

    Attributes:
        called: There was a call.
    """

    def __init__(
        self,
        splitter: ReasoningSplitter | None,
        parser: CallParser | None,
        *,
        call_id: Callable[[], str],
        special_tokens: bool = False,
        logprobs: bool = False,
    ) -> None:
        self.called = False
        self._splitter, self._parser = splitter, parser
        self._call_id = call_id
        self._special_tokens = special_tokens
        self._trace = TokenTrace() if logprobs else None
        self._calls = 0

    @property
    def is_plain(self) -> bool:
        """Whether from now on all text is content, just as it comes."""
        passed = self._splitter is None or self._splitter.passed
        return passed and self._parser is None and self._trace is None and not self._special_tokens

    def feed(self, event: TurnText) -> Sequence[Piece]:
        """Read on; returns what is certain."""
        if self._trace:
            self._trace.add(event.logprobs)
        if self._splitter is None:
            return self._answer(event.text)
        reasoning, text = self._splitter.feed(event.text)
        return [*self._thought(reasoning), *self._answer(text)]

    def finish(self, *, cut: bool) -> Sequence[Piece]:
        """Return what was held back. `cut` says that a stop string cut text off, whose tokens nobody sees."""
        reasoning, text = self._splitter.finish() if self._splitter else ([], "")
        pieces = [*self._thought(reasoning), *self._answer(text)]
        if self._parser:
            pieces += self._parts(self._parser.finish())
        elif self._trace and not cut and (rest := self._trace.rest()):
            pieces.append(ContentDelta("", rest))
        return pieces

    def _thought(self, reasoning: Sequence[ReasoningDelta]) -> Sequence[ReasoningDelta]:
        told = [ReasoningDelta(text) for piece in reasoning if (text := self._without_endings(piece.text))]
        if self._trace:
            for piece in told:
                self._trace.take(piece.text)
        return told

    def _without_endings(self, text: str) -> str:
        """Drop the tokens that end things. Not before thoughts are told apart, whose end may be marked by one."""
        return _ENDINGS.sub("", text) if self._special_tokens else text

    def _answer(self, text: str) -> list[Piece]:
        text = self._without_endings(text)
        if not text:
            return []
        return self._parts(self._parser.feed(text) if self._parser else (text,))

    def _parts(self, parts: Iterable[str | CallPart]) -> list[Piece]:
        return [self._piece(part) for part in parts]

    def _piece(self, part: str | CallPart) -> Piece:
        if isinstance(part, str):
            return ContentDelta(part, self._trace.take(part) if self._trace else ())
        if isinstance(part, CallOpened):
            self.called = True
            self._calls += 1
            return ToolCallStarted(self._calls - 1, self._call_id(), part.name)
        if self._trace:
            self._trace.take(part.text)
        return ToolArgumentsDelta(self._calls - 1, part.text)


class TokenTrace:
    """Finds the tokens behind a piece of text, which may come later than they do and leave some of them out."""

    def __init__(self) -> None:
        self._tokens: list[TokenLogprob] = []

    def add(self, tokens: Iterable[TokenLogprob]) -> None:
        """Take note of new tokens."""
        self._tokens += tokens

    def take(self, text: str) -> tuple[TokenLogprob, ...]:
        """Return the tokens of a text, and forget them and whatever came before."""
        data = text.encode(errors="replace")
        begin = b"".join(token.token for token in self._tokens).find(data)
        if begin < 0:  # bytes that never became characters look different as text
            return self.rest()
        taken: list[TokenLogprob] = []
        at = used = 0
        for token in self._tokens:
            if at >= begin + len(data):
                break
            used += 1
            at += len(token.token)
            if at > begin:
                taken.append(token)
        del self._tokens[:used]
        return tuple(taken)

    def rest(self) -> tuple[TokenLogprob, ...]:
        """Return all that is left, and forget it."""
        rest = tuple(self._tokens)
        self._tokens.clear()
        return rest
