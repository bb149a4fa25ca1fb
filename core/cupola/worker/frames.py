"""Frames on the socket between service and worker: a four-byte big-endian length, then a msgpack message."""

import struct
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

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
