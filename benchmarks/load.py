"""Many streaming clients at once, in one event loop, with as little work per token as Python allows."""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec

_CONTENT = b'"delta":{"content":"'
_RECEIVE_BYTES = 1 << 16


class Answered(msgspec.Struct, frozen=True):
    """One streamed answer. Times in seconds on the clock of `time.perf_counter`."""

    sent_at: float
    first_at: float
    ended_at: float
    completion_tokens: int
    cached_tokens: int

    @property
    def ttft_s(self) -> float:
        """From sending the request to the first piece of text."""
        return self.first_at - self.sent_at


def run_all(url: str, bodies: Sequence[dict[str, Any]], *, at_once: int = 0) -> list[Answered]:
    """Send the requests, at most `at_once` at the same time (0: all), and wait for every answer."""
    return anyio.run(_run_all, url, bodies, at_once or len(bodies))


async def _run_all(url: str, bodies: Sequence[dict[str, Any]], at_once: int) -> list[Answered]:
    answers: list[Answered] = []
    limiter = anyio.CapacityLimiter(at_once)

    async def one(body: dict[str, Any]) -> None:
        async with limiter:
            answers.append(await ask(url, body))

    async with anyio.create_task_group() as group:
        for body in bodies:
            group.start_soon(one, body)
    return answers


async def ask(url: str, body: dict[str, Any]) -> Answered:
    """Stream one chat over a connection of its own."""
    parts = urlsplit(url)
    data = msgspec.json.encode({**body, "stream": True, "stream_options": {"include_usage": True}})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as stream:
        sent_at = time.perf_counter()
        await stream.send(head.encode() + data)
        received, first_at = bytearray(), 0.0
        while b"data: [DONE]" not in received[-64:]:
            received += await stream.receive(_RECEIVE_BYTES)
            if not first_at and _CONTENT in received:
                first_at = time.perf_counter()
        ended_at = time.perf_counter()
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(received.decode("utf-8", "replace"))
    start = received.rindex(b'"usage":{') + len(b'"usage":')
    usage, _ = _object(bytes(received[start:]))
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Answered(sent_at, first_at or ended_at, ended_at, usage["completion_tokens"], cached)


def _object(data: bytes) -> tuple[dict[str, Any], int]:
    """Decode the JSON object that bytes begin with."""
    depth = 0
    for at, byte in enumerate(data):
        depth += (byte == ord("{")) - (byte == ord("}"))
        if not depth:
            return msgspec.json.decode(data[: at + 1]), at + 1
    raise ValueError("no JSON object")
