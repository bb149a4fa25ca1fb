"""A streaming client for OpenAI chat completions with as little work per token as Python allows, and its timings."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
from msgspec import Struct

from cupola_server.bench.errors import TargetError
from cupola_server.bench.prompts import Prompt

_RECEIVE_BYTES = 1 << 16
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class TimedResponse:
    """When the parts of one response arrived, in seconds on the clock of `time.perf_counter`.

    Attributes:
        sent_at: Just before the request was sent.
        times: When each piece of text arrived; one piece is one token in most cases.
        ended_at: When the last piece had arrived.
        prompt_tokens, completion_tokens, cached_tokens: Token usage as the server reports it.
    """

    sent_at: float
    times: Sequence[float]
    ended_at: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def ttft_s(self) -> float:
        """Seconds from sending the request to the first piece of text."""
        return (self.times[0] if self.times else self.ended_at) - self.sent_at

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between consecutive pieces of text."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    @property
    def decode_per_s(self) -> float:
        """Tokens per second after the first token; 0 if everything arrived at once."""
        span = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return (self.completion_tokens - 1) / span if span else 0.0


def total_tokens(responses: Sequence[TimedResponse]) -> int:
    """Return the number of completion tokens of all responses."""
    return sum(response.completion_tokens for response in responses)


def span_s(responses: Sequence[TimedResponse]) -> float:
    """Return the seconds from the first request to the end of the last response."""
    return max(response.ended_at for response in responses) - min(response.sent_at for response in responses)


def median_ttft_s(responses: Sequence[TimedResponse]) -> float:
    """Return the median time to first token in seconds."""
    return statistics.median(response.ttft_s for response in responses)


class _PromptTokensDetails(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptTokensDetails | None = None


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class EventStreamParser:
    """Parses the bytes of a streamed HTTP response: its status, then the data of its server-sent events."""

    def __init__(self) -> None:
        self.status = 0
        self._raw = bytearray()
        self._body = bytearray()
        self._is_chunked = False
        self._left_in_chunk = 0
        self._has_head = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes and return the data of the events that they complete."""
        self._raw += data
        if not self._has_head and not self._parse_head():
            return []
        if self._is_chunked:
            self._parse_chunks()
        else:
            self._body += self._raw
            self._raw.clear()
        events = []
        while (end := self._body.find(b"\n")) >= 0:
            line = bytes(self._body[:end]).strip()
            del self._body[: end + 1]
            if line.startswith(b"data:"):
                events.append(line[5:].strip())
        return events

    @property
    def remainder(self) -> str:
        """The text after the last complete line; for an error response this is its body."""
        return (self._body or self._raw).decode("utf-8", "replace").strip()

    def _parse_head(self) -> bool:
        head, found, rest = bytes(self._raw).partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split()[1])
        self._is_chunked = any(b"chunked" in line.lower() for line in lines if line.lower().startswith(b"transfer-enc"))
        self._raw[:] = rest
        self._has_head = True
        return True

    def _parse_chunks(self) -> None:
        while self._raw:
            if self._left_in_chunk:
                part = self._raw[: self._left_in_chunk]
                self._body += part
                self._left_in_chunk -= len(part)
                del self._raw[: len(part)]
                continue
            if self._raw.startswith(b"\r\n"):  # the end of the previous chunk
                del self._raw[:2]
            end = self._raw.find(b"\r\n")
            if end < 1:
                return
            size = bytes(self._raw[:end]).strip().partition(b";")[0]
            del self._raw[: end + 2]
            self._left_in_chunk = int(size, 16)
            if not self._left_in_chunk:
                return


@dataclass(frozen=True, slots=True)
class ChatClient:
    """Sends chat completions to one server.

    It reads the socket itself: an HTTP library takes more time per token than a fast server does.

    Attributes:
        name: The target's name, for errors.
        url: Base URL, "http://127.0.0.1:5272/v1".
        model: The model's name on that server.
        extra: Request fields beside those that every server knows.
        key: API key, sent as a bearer token if it is not empty.
    """

    name: str
    url: str
    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Stream one greedy response of at most `new_tokens` tokens over a connection of its own.

        Raises:
            TargetError: The server cannot be reached, takes longer than 10 minutes, or sends an error.
        """
        request = self._build_request(prompt, new_tokens)
        parser, times, usage, done = EventStreamParser(), list[float](), None, False
        try:
            with anyio.fail_after(_TIMEOUT_S):
                async with await self._connect() as stream:
                    sent_at = time.perf_counter()
                    await stream.send(request)
                    while not done:
                        data = await stream.receive(_RECEIVE_BYTES)
                        now = time.perf_counter()
                        for event in parser.feed(data):
                            done = done or event == b"[DONE]"
                            usage = (None if done else self._read_event(event, now, times)) or usage
        except anyio.EndOfStream:
            pass  # some servers close the connection in place of [DONE]
        except (OSError, TimeoutError, anyio.BrokenResourceError, ValueError, msgspec.DecodeError) as error:
            raise TargetError(name=self.name, detail=f"{type(error).__name__}: {error}") from error
        if parser.status != 200 or usage is None:
            detail = f"it responded with status {parser.status}: {parser.remainder[-300:]}"
            raise TargetError(name=self.name, detail=detail)
        details = usage.prompt_tokens_details
        cached_tokens = (details.cached_tokens or 0) if details else 0
        ended_at = times[-1] if times else time.perf_counter()
        return TimedResponse(sent_at, times, ended_at, usage.prompt_tokens, usage.completion_tokens, cached_tokens)

    async def _connect(self) -> anyio.abc.ByteStream:
        parts = urlsplit(self.url)
        host = parts.hostname or "127.0.0.1"
        if parts.scheme == "https":
            return await anyio.connect_tcp(host, parts.port or 443, tls=True, tls_standard_compatible=False)
        return await anyio.connect_tcp(host, parts.port or 80)

    def _build_request(self, prompt: Prompt, new_tokens: int) -> bytes:
        parts = urlsplit(self.url)
        body = msgspec.json.encode({
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "max_tokens": new_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        })  # fmt: skip
        key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST {parts.path.rstrip('/')}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n{key}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body

    def _read_event(self, event: bytes, now: float, times: list[float]) -> _Usage | None:
        """Append the arrival time if the event has text; return the token usage if the event has it."""
        chunk = _decode_chunk(event)
        if chunk.error:
            raise TargetError(name=self.name, detail=str(chunk.error))
        if chunk.choices and (delta := chunk.choices[0].delta) and delta.content:
            times.append(now)
        return chunk.usage
