"""The worker's loop: takes requests in, steps the session, sends what came of it. One thread, no locks."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cupola.contracts import Session, TokenEvent, Turn
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
from cupola.worker.answer import AnswerText

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Row:
    """A turn that was accepted and is not over."""

    turn: Turn
    text: AnswerText
    generated: int = 0
    cached: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(len(self.turn.prompt), self.generated, self.cached)


class TurnLoop:
    """Runs turns on a session, first come first served, as many at once as the session has capacity for."""

    def __init__(self, session: Session, send: Callable[[Step], None]) -> None:
        self._session = session
        self._send = send
        self._waiting: deque[_Row] = deque()
        self._active: dict[int, _Row] = {}

    @property
    def busy(self) -> bool:
        """Whether any turn runs or waits."""
        return bool(self._active or self._waiting)

    def receive(self, messages: Sequence[Submit | Cancel]) -> None:
        """Accept or refuse new turns and forget cancelled ones; answers at once, before any computing."""
        events: list[TurnEvent] = []
        for message in messages:
            if isinstance(message, Submit):
                events.append(self._accept(message.turn, message.request))
            elif (row := self._drop(message.turn)) is not None:
                events.append(TurnFinished(message.turn, "cancelled", row.usage))
        if events:
            self._send(Step(tuple(events)))

    def step(self) -> None:
        """Fill free places from the queue, then run one step and send its events."""
        events: list[TurnEvent] = []
        while self._waiting and len(self._active) < self._session.capacity:
            row = self._waiting.popleft()
            self._active[row.turn.id] = row
            self._session.admit(row.turn)
        try:
            for event in self._session.step():
                events += self._progress(event)
        except Exception as error:
            logger.exception("A step failed; its turns are given up")
            events += self._fail_all(error)
        self._send(Step(tuple(events)))

    def _accept(self, turn_id: int, request: GenerateRequest) -> TurnEvent:
        try:
            turn = self._prepare(turn_id, request)
        except CupolaError as error:
            return TurnFailed(turn_id, to_wire(error))
        except Exception as error:
            logger.exception("A prompt could not be prepared")
            return TurnFailed(turn_id, _wire(error))
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
            raise InvalidParameterError(param="prompt", detail="The prompt is empty: there is nothing to answer.")
        context = self._session.context_length
        wanted = max(1, context - len(prompt)) if request.max_tokens is None else request.max_tokens
        if len(prompt) + wanted > context:
            raise ContextLengthExceededError(
                context_length=context, prompt_tokens=len(prompt), completion_tokens=wanted
            )
        turn = Turn(
            turn_id,
            prompt,
            wanted,
            request.sampling,
            request.ignore_eos,
            min(request.min_tokens, wanted),
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
            events.append(TurnText(event.turn_id, text, len(event.tokens), self._readable(event)))
        if finish is not None:
            del self._active[event.turn_id]
            stopped_by = row.text.stopped_by if row.text.stopped else event.stop_token
            events.append(TurnFinished(event.turn_id, finish, row.usage, stopped_by))
        return events

    def _readable(self, event: TokenEvent) -> tuple[TokenLogprob, ...]:
        """Put the bytes of tokens in place of their numbers."""
        name = self._session.tokenizer.token_bytes
        return tuple(
            TokenLogprob(name(one.token), one.logprob, tuple((name(token), value) for token, value in one.top))
            for one in event.logprobs
        )

    def _fail_all(self, error: Exception) -> list[TurnEvent]:
        wire = _wire(error)
        failed: list[TurnEvent] = []
        for turn_id in list(self._active):
            self._drop(turn_id)
            failed.append(TurnFailed(turn_id, wire))
        return failed


def _wire(error: Exception) -> WireError:
    if isinstance(error, CupolaError):
        return to_wire(error)
    return to_wire(WorkerError(detail=f"The model failed underway: {type(error).__name__}: {error}"))
