"""The worker's loop: accepts requests, steps the session, and sends the resulting events. One thread, no locks."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cupola.contracts import Session, TextStream, TokenEvent, Turn
from cupola.errors import (
    ContextLengthExceededError,
    CupolaError,
    InvalidParameterError,
    WireError,
    WorkerError,
    to_wire,
)
from cupola.messages import (
    ChatPrompt,
    FinishReason,
    GenerateRequest,
    TextPrompt,
    TokenLogprob,
    TurnFinished,
    TurnText,
    Usage,
)
from cupola.protocol import Cancel, Step, Submit, TurnEvent, TurnFailed, TurnStarted

logger = logging.getLogger(__name__)


class AnswerText:
    """Decodes one answer and finds stop strings. Text that may be the start of a stop string is held back."""

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
        """Add tokens and return the new text. There is none after a stop string."""
        return self._release("".join(map(self._stream.push, tokens)))

    def finish(self) -> str:
        """Return the text held back, at the end of the answer."""
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


@dataclass(slots=True)
class _Row:
    """An accepted turn that has not ended."""

    turn: Turn
    text: AnswerText
    generated: int = 0
    cached: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(len(self.turn.prompt), self.generated, self.cached)


class TurnLoop:
    """Runs turns on a session in order of arrival, up to the session's capacity at a time."""

    def __init__(self, session: Session, send: Callable[[Step], None]) -> None:
        self._session = session
        self._send = send
        self._waiting: deque[_Row] = deque()
        self._active: dict[int, _Row] = {}

    @property
    def busy(self) -> bool:
        """Whether any turn is running or waiting."""
        return bool(self._active or self._waiting)

    def receive(self, messages: Sequence[Submit | Cancel]) -> None:
        """Accept or reject new turns and drop cancelled ones, and send the results before the next step."""
        events: list[TurnEvent] = []
        for message in messages:
            if isinstance(message, Submit):
                events.append(self._accept(message.turn, message.request))
            elif (row := self._drop(message.turn)) is not None:
                events.append(TurnFinished(message.turn, "cancelled", row.usage))
        if events:
            self._send(Step(tuple(events)))

    def step(self) -> None:
        """Admit waiting turns while there is capacity, then run one step and send its events."""
        events: list[TurnEvent] = []
        while self._waiting and len(self._active) < self._session.capacity:
            row = self._waiting.popleft()
            self._active[row.turn.id] = row
            self._session.admit(row.turn)
        try:
            for event in self._session.step():
                events += self._progress(event)
        except Exception as error:
            logger.exception("A step failed, and with it all active turns")
            events += self._fail_all(error)
        self._send(Step(tuple(events)))

    def _accept(self, turn_id: int, request: GenerateRequest) -> TurnEvent:
        try:
            turn = self._prepare(turn_id, request)
        except CupolaError as error:
            return TurnFailed(turn_id, to_wire(error))
        except Exception as error:
            logger.exception("A prompt could not be prepared")
            return TurnFailed(turn_id, _to_wire(error))
        self._waiting.append(
            _Row(turn, AnswerText(self._session.tokenizer.stream(special=request.special_tokens), request.stop))
        )
        return TurnStarted(turn_id, len(turn.prompt))

    def _prepare(self, turn_id: int, request: GenerateRequest) -> Turn:
        match request.prompt:
            case ChatPrompt():
                prompt = self._session.tokenizer.render(request.prompt)
            case TextPrompt(text):
                prompt = self._session.tokenizer.encode(text)
            case _:
                prompt = list(request.prompt.tokens)
        if not prompt:
            raise InvalidParameterError(param="prompt", detail="The prompt is empty.")
        context = self._session.context_length
        max_tokens = max(1, context - len(prompt)) if request.max_tokens is None else request.max_tokens
        if len(prompt) + max_tokens > context:
            raise ContextLengthExceededError(
                context_length=context, prompt_tokens=len(prompt), completion_tokens=max_tokens
            )
        turn = Turn(
            turn_id,
            prompt,
            max_tokens,
            request.sampling,
            request.ignore_eos,
            min(request.min_tokens, max_tokens),
            frozenset(request.stop_token_ids),
            request.guidance,
            request.top_logprobs,
        )
        self._session.check(turn)
        return turn

    def _drop(self, turn_id: int) -> _Row | None:
        if row := self._active.pop(turn_id, None):
            self._session.cancel(turn_id)
            return row
        row = next((row for row in self._waiting if row.turn.id == turn_id), None)
        if row:
            self._waiting.remove(row)
        return row

    def _progress(self, event: TokenEvent) -> list[TurnEvent]:
        row = self._active.get(event.turn_id)
        if row is None:
            return []
        row.generated += len(event.tokens)
        row.cached = event.cached_tokens
        if event.error:
            del self._active[event.turn_id]
            return [TurnFailed(event.turn_id, event.error)]
        text = row.text.push(event.tokens)
        finish: FinishReason | None = event.finish
        if row.text.stopped and finish is None:
            self._session.cancel(event.turn_id)
        if finish is not None:
            text += row.text.finish()
        if row.text.stopped:
            finish = "stop"
        events: list[TurnEvent] = []
        if text or event.tokens:
            events.append(TurnText(event.turn_id, text, len(event.tokens), self._logprobs(event)))
        if finish is not None:
            del self._active[event.turn_id]
            stopped_by = row.text.stopped_by if row.text.stopped else event.stop_token
            events.append(TurnFinished(event.turn_id, finish, row.usage, stopped_by))
        return events

    def _logprobs(self, event: TokenEvent) -> tuple[TokenLogprob, ...]:
        """Convert log probabilities, with the bytes of tokens instead of their ids."""
        token_bytes = self._session.tokenizer.token_bytes
        return tuple(
            TokenLogprob(
                token_bytes(entry.token),
                entry.logprob,
                tuple((token_bytes(token), logprob) for token, logprob in entry.top),
            )
            for entry in event.logprobs
        )

    def _fail_all(self, error: Exception) -> list[TurnEvent]:
        wire = _to_wire(error)
        failed: list[TurnEvent] = []
        for turn_id in list(self._active):
            self._drop(turn_id)
            failed.append(TurnFailed(turn_id, wire))
        return failed


def _to_wire(error: Exception) -> WireError:
    if isinstance(error, CupolaError):
        return to_wire(error)
    return to_wire(WorkerError(detail=f"The model failed during generation: {type(error).__name__}: {error}"))


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a proper prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
