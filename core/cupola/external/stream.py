"""Converts the server-sent events of an external service to the events of a turn."""

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio
import msgspec
from msgspec import Struct

from cupola.errors import ExternalServiceError
from cupola.external.service import ExternalService
from cupola.messages import (
    FinishReason,
    TokenLogprob,
    TurnCall,
    TurnFinished,
    TurnReasoning,
    TurnText,
    Usage,
)

if TYPE_CHECKING:
    import httpx


Event = TurnText | TurnReasoning | TurnCall | TurnFinished

_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
_TURN = 0
_READ_REST_S = 0.5


class _Function(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct, frozen=True):
    index: int = 0
    function: _Function = _Function()


class _Delta(Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Top(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Logprob(_Top, frozen=True):
    top_logprobs: list[_Top] = []


class _Logprobs(Struct, frozen=True):
    content: list[_Logprob] | None = None


class _Choice(Struct, frozen=True):
    delta: _Delta = _Delta()
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Cached(Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Failure(Struct, frozen=True):
    message: str = "no reason given"


class _Chunk(Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Failure | str | None = None


class ExternalStream:
    """The stream of an answer. It reads nothing ahead, so a slow reader slows the service down."""

    def __init__(self, service: ExternalService, response: "httpx.Response") -> None:
        self._service = service
        self._lines = response.aiter_lines()
        self._pending: deque[Event] = deque()
        self._decoder = msgspec.json.Decoder(_Chunk)
        self._reason: str | None = None
        self._usage: _Usage | None = None
        self._deltas = 0

    async def get(self) -> Event:
        """Wait for the next event; the last one is `TurnFinished`.

        Raises:
            ExternalServiceError: The stream failed, or the service sent nothing within the time limit.
        """
        while not self._pending:
            with self._service.converted_errors():
                line = await anext(self._lines, None)
            if line is None or line.strip() == "data: [DONE]":
                self._pending.append(self._finished())
                await self._read_rest()
            elif line.startswith("data:"):
                self._pending.extend(self._parse(line.removeprefix("data:")))
        return self._pending.popleft()

    async def _read_rest(self) -> None:
        """Read the empty rest after the end mark, so that the connection can be reused."""
        with (
            anyio.move_on_after(_READ_REST_S),
            contextlib.suppress(ExternalServiceError),
            self._service.converted_errors(),
        ):
            async for _ in self._lines:
                pass

    def _parse(self, data: str) -> Iterator[Event]:
        try:
            chunk = self._decoder.decode(data)
        except msgspec.DecodeError:
            raise self._error("it sent an invalid chunk") from None
        if chunk.error is not None:
            message = chunk.error if isinstance(chunk.error, str) else chunk.error.message
            raise self._error(self._service.redact(message))
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices[:1]:
            self._reason = choice.finish_reason or self._reason
            yield from self._events(choice)

    def _events(self, choice: _Choice) -> Iterator[Event]:
        delta = choice.delta
        if reasoning := delta.reasoning_content or delta.reasoning:
            self._deltas += 1
            yield TurnReasoning(_TURN, reasoning)
        logprobs = _logprobs(choice.logprobs)
        if text := delta.content or delta.refusal or choice.text:
            tokens = len(logprobs) or 1
            self._deltas += tokens
            yield TurnText(_TURN, text, tokens, logprobs)
        for call in delta.tool_calls or ():
            self._deltas += 1
            yield TurnCall(_TURN, call.index, call.function.name or "", call.function.arguments or "")

    def _finished(self) -> TurnFinished:
        if self._reason is None:
            raise self._error("its stream ended unexpectedly")
        usage = self._usage or _Usage(completion_tokens=self._deltas)
        details = usage.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details else 0
        counts = Usage(usage.prompt_tokens, usage.completion_tokens, cached)
        return TurnFinished(_TURN, _REASONS.get(self._reason, "stop"), counts)

    def _error(self, detail: str) -> ExternalServiceError:
        return ExternalServiceError(service=self._service.name, detail=detail)


def _logprobs(logprobs: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if logprobs is None or not logprobs.content:
        return ()
    return tuple(
        TokenLogprob(_bytes(token), token.logprob, tuple((_bytes(top), top.logprob) for top in token.top_logprobs))
        for token in logprobs.content
    )


def _bytes(token: _Top) -> bytes:
    return token.token.encode() if token.bytes is None else bytes(token.bytes)
