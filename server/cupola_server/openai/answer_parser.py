"""Parses the text of an answer into reasoning, function calls and content while it is generated."""

import re
from collections.abc import Callable, Iterable, Sequence

from cupola.frontend import TokenLogprob, TurnText
from cupola_server.openai.reasoning import ReasoningSplitter
from cupola_server.openai.stream_events import (
    ContentDelta,
    ReasoningDelta,
    StreamEvent,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from cupola_server.openai.tools import CallOpened, CallParser, CallPart

# Tokens that end a turn. They appear in the text when special tokens are requested because markers are among them.
_END_TOKENS = re.compile(
    r"<\|(?:im_start|im_end|eot_id|eom_id|end|endoftext|end_of_text|return|call)\|>|</?s>|<eos>|<(?:end_of_turn|turn\|)>"
)


class AnswerParser:
    """Parses one answer.

    Args:
        reasoning: Separates reasoning from the rest; None if the model does not reason.
        calls: Separates calls from content; None if no function may be called.
        call_id: Creates ids for calls.
        special_tokens: Whether the text contains special tokens.
        logprobs: Whether its events carry log probabilities.

    Attributes:
        has_calls: Whether a call was found.
    """

    def __init__(
        self,
        reasoning: ReasoningSplitter | None,
        calls: CallParser | None,
        *,
        call_id: Callable[[], str],
        special_tokens: bool = False,
        logprobs: bool = False,
    ) -> None:
        self.has_calls = False
        self._reasoning, self._calls = reasoning, calls
        self._call_id = call_id
        self._special_tokens = special_tokens
        self._trace = TokenTrace() if logprobs else None
        self._call_count = 0

    @property
    def is_plain(self) -> bool:
        """Whether all further text is content that needs no parsing."""
        is_past_reasoning = self._reasoning is None or self._reasoning.is_done
        return is_past_reasoning and self._calls is None and self._trace is None and not self._special_tokens

    def feed(self, event: TurnText) -> Sequence[StreamEvent]:
        """Parse more text and return the events that are certain so far."""
        if self._trace:
            self._trace.add(event.logprobs)
        if self._reasoning is None:
            return self._parse_answer(event.text)
        reasoning, text = self._reasoning.feed(event.text)
        return [*self._reasoning_events(reasoning), *self._parse_answer(text)]

    def finish(self, *, cut: bool) -> Sequence[StreamEvent]:
        """Return the remaining events. `cut` means that a stop string removed text, whose tokens are dropped."""
        reasoning, text = self._reasoning.finish() if self._reasoning else ([], "")
        events = [*self._reasoning_events(reasoning), *self._parse_answer(text)]
        if self._calls:
            events += self._call_events(self._calls.finish())
        elif self._trace and not cut and (rest := self._trace.rest()):
            events.append(ContentDelta("", rest))
        return events

    def _reasoning_events(self, deltas: Sequence[ReasoningDelta]) -> Sequence[ReasoningDelta]:
        events = [ReasoningDelta(text) for delta in deltas if (text := self._without_end_tokens(delta.text))]
        if self._trace:
            for event in events:
                self._trace.take(event.text)
        return events

    def _without_end_tokens(self, text: str) -> str:
        """Remove end tokens. This comes after reasoning was split off, because one of them may be its marker."""
        return _END_TOKENS.sub("", text) if self._special_tokens else text

    def _parse_answer(self, text: str) -> list[StreamEvent]:
        text = self._without_end_tokens(text)
        if not text:
            return []
        return self._call_events(self._calls.feed(text) if self._calls else (text,))

    def _call_events(self, parts: Iterable[str | CallPart]) -> list[StreamEvent]:
        return [self._event(part) for part in parts]

    def _event(self, part: str | CallPart) -> StreamEvent:
        if isinstance(part, str):
            return ContentDelta(part, self._trace.take(part) if self._trace else ())
        if isinstance(part, CallOpened):
            self.has_calls = True
            self._call_count += 1
            return ToolCallStarted(self._call_count - 1, self._call_id(), part.name)
        if self._trace:
            self._trace.take(part.text)
        return ToolArgumentsDelta(self._call_count - 1, part.text)


class TokenTrace:
    """Matches text to the tokens it came from. Text may lag behind its tokens, and some tokens have no text."""

    def __init__(self) -> None:
        self._tokens: list[TokenLogprob] = []

    def add(self, tokens: Iterable[TokenLogprob]) -> None:
        """Add new tokens."""
        self._tokens += tokens

    def take(self, text: str) -> tuple[TokenLogprob, ...]:
        """Remove and return the tokens of a text; tokens before it are dropped."""
        data = text.encode(errors="replace")
        begin = b"".join(token.token for token in self._tokens).find(data)
        if begin < 0:  # bytes of incomplete characters differ from their text, U+FFFD
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
        """Remove and return all remaining tokens."""
        rest = tuple(self._tokens)
        self._tokens.clear()
        return rest
