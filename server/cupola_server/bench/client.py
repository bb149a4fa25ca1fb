"""A streaming client for chats of OpenAI's API, with as little work per token as Python allows."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
from msgspec import Struct

from cupola_server.bench.errors import PeerError
from cupola_server.bench.prompts import Prompt

_RECEIVE_BYTES = 1 << 16
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Times on the clock of `time.perf_counter`.

    Attributes:
        sent_at: Just before the request was sent.
        times: When each piece of text came; one piece is one token, mostly.
        ended_at: When the last one had come.
        prompt_tokens, completion_tokens, cached_tokens: As the answer tells.
    """

    sent_at: float
    times: Sequence[float]
    ended_at: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def ttft_s(self) -> float:
        """From sending to the first piece of text."""
        return (self.times[0] if self.times else self.ended_at) - self.sent_at

    @property
    def gaps_s(self) -> list[float]:
        """Between one piece of text and the next."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    @property
    def decode_per_s(self) -> float:
        """Tokens per second after the first one; 0 if there is no second one."""
        span = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return (self.completion_tokens - 1) / span if span else 0.0


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class EventReader:
    """Takes the bytes of a streamed HTTP reply apart: its status, then the data of its events."""

    def __init__(self) -> None:
        self.status = 0
        self._raw = bytearray()
        self._body = bytearray()
        self._chunked = False
        self._in_chunk = 0
        self._head_read = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes; returns the data of the events that are now whole."""
        self._raw += data
        if not self._head_read and not self._read_head():
            return []
        if self._chunked:
            self._dechunk()
        else:
            self._body += self._raw
            self._raw.clear()
        found = []
        while (end := self._body.find(b"\n")) >= 0:
            line = bytes(self._body[:end]).strip()
            del self._body[: end + 1]
            if line.startswith(b"data:"):
                found.append(line[5:].strip())
        return found

    @property
    def rest(self) -> str:
        """What is no whole line: the text of an error, mostly."""
        return (self._body or self._raw).decode("utf-8", "replace").strip()

    def _read_head(self) -> bool:
        head, found, rest = bytes(self._raw).partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split()[1])
        self._chunked = any(b"chunked" in line.lower() for line in lines if line.lower().startswith(b"transfer-enc"))
        self._raw[:] = rest
        self._head_read = True
        return True

    def _dechunk(self) -> None:
        while self._raw:
            if self._in_chunk:
                part = self._raw[: self._in_chunk]
                self._body += part
                self._in_chunk -= len(part)
                del self._raw[: len(part)]
                continue
            if self._raw.startswith(b"\r\n"):  # the end of the chunk before
                del self._raw[:2]
            end = self._raw.find(b"\r\n")
            if end < 1:
                return
            size = bytes(self._raw[:end]).strip().partition(b";")[0]
            del self._raw[: end + 2]
            self._in_chunk = int(size, 16)
            if not self._in_chunk:
                return


@dataclass(frozen=True, slots=True)
class ChatClient:
    """Asks one server.

    Attributes:
        name: For errors.
        url: Base URL, "http://127.0.0.1:5272/v1".
        model: What the server calls the model.
        extra: Fields beside those that every server knows.
        key: Sent as "Authorization: Bearer KEY", if there is one.
    """

    name: str
    url: str
    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Stream one greedy answer over a connection of its own.

        Raises:
            PeerError: The answer is an error, or none.
        """
        data = self._request(prompt, new_tokens)
        reader, times, usage, done = EventReader(), list[float](), None, False
        try:
            with anyio.fail_after(_TIMEOUT_S):
                async with await self._connect() as stream:
                    sent_at = time.perf_counter()
                    await stream.send(data)
                    while not done:
                        received = await stream.receive(_RECEIVE_BYTES)
                        now = time.perf_counter()
                        for event in reader.feed(received):
                            done = done or event == b"[DONE]"
                            usage = (None if done else self._take(event, now, times)) or usage
        except anyio.EndOfStream:
            pass
        except (OSError, TimeoutError, anyio.BrokenResourceError, ValueError, msgspec.DecodeError) as error:
            raise PeerError(name=self.name, detail=f"{type(error).__name__}: {error}") from error
        if reader.status != 200 or usage is None:
            detail = f"it answered with status {reader.status}: {reader.rest[-300:]}"
            raise PeerError(name=self.name, detail=detail)
        details = usage.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details else 0
        ended_at = times[-1] if times else time.perf_counter()
        return Answer(sent_at, times, ended_at, usage.prompt_tokens, usage.completion_tokens, cached)

    async def _connect(self) -> anyio.abc.ByteStream:
        parts = urlsplit(self.url)
        host = parts.hostname or "127.0.0.1"
        if parts.scheme == "https":
            return await anyio.connect_tcp(host, parts.port or 443, tls=True, tls_standard_compatible=False)
        return await anyio.connect_tcp(host, parts.port or 80)

    def _request(self, prompt: Prompt, new_tokens: int) -> bytes:
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

    def _take(self, event: bytes, now: float, times: list[float]) -> _Usage | None:
        """Note the time of a piece of text; returns the usage if the event has it."""
        chunk = _decode(event)
        if chunk.error:
            raise PeerError(name=self.name, detail=str(chunk.error))
        if chunk.choices and (delta := chunk.choices[0].delta) and delta.content:
            times.append(now)
        return chunk.usage


def tokens_of(answers: Sequence[Answer]) -> int:
    """Return the tokens of all answers together."""
    return sum(answer.completion_tokens for answer in answers)


def span_s(answers: Sequence[Answer]) -> float:
    """Return the seconds from the first request to the end of the last answer."""
    return max(answer.ended_at for answer in answers) - min(answer.sent_at for answer in answers)


def median_ttft_s(answers: Sequence[Answer]) -> float:
    """Return the time to the first token that half of the answers did not exceed."""
    return statistics.median(answer.ttft_s for answer in answers)
