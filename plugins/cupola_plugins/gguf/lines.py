"""What the importing process tells its parent: JSON, one line each."""

import msgspec
from msgspec import Struct

from cupola.catalog import ProgressEvent
from cupola.errors import WireError


class ProgressLine(Struct, frozen=True, tag="progress"):
    """The import got further."""

    event: ProgressEvent


class DoneLine(Struct, frozen=True, tag="done"):
    """The import is complete. Always the last line of a process that succeeded."""


Line = ProgressLine | WireError | DoneLine

_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """Write a line, with its end."""
    return msgspec.json.encode(line) + b"\n"


def decode(line: bytes) -> Line:
    """Read a line.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _DECODER.decode(line)
