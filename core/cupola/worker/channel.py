"""The connection between service and worker: frames on the socket, and queues of events for readers."""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

import anyio
import msgspec

from cupola.errors import CupolaError
from cupola.messages import TurnText
from cupola.protocol import FromWorker, ToWorker

T = TypeVar("T")
_LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024


def encode(message: ToWorker | FromWorker) -> bytes:
    """Encode one message as a frame."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader(Generic[T]):
    """Splits a byte stream into messages."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """Add bytes and iterate over the messages that are now complete.

        Raises:
            ValueError: A frame is too long or cannot be decoded.
        """
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield self._decoder.decode(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]


class Mailbox(Generic[T]):
    """The events of one turn, in order. Text that is not read in time is merged.

    A slow reader therefore needs memory for at most one answer, and never blocks the worker.
    """

    def __init__(self) -> None:
        self._events: deque[T | CupolaError] = deque()
        self._arrived = anyio.Event()

    def put(self, event: T | CupolaError) -> None:
        """Add an event. An error is raised to the reader."""
        last = self._events[-1] if self._events else None
        if isinstance(event, TurnText) and isinstance(last, TurnText):
            merged = TurnText(
                event.turn, last.text + event.text, last.tokens + event.tokens, last.logprobs + event.logprobs
            )
            self._events[-1] = cast("T", merged)
        else:
            self._events.append(event)
        self._arrived.set()

    async def get(self) -> T:
        """Wait for the next event and return it.

        Raises:
            CupolaError: The next entry is this error.
        """
        while not self._events:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event = self._events.popleft()
        if isinstance(event, CupolaError):
            raise event
        return event
