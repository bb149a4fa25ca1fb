"""How the weights of a model are stored, as its ONNX file says."""

import mmap
from collections.abc import Iterator
from pathlib import Path

PROPERTY = b"cupola.layout"
"""Metadata property of the ONNX files that Cupola writes."""

_METADATA_PROPS = 14  # of ModelProto, each with a key (1) and a value (2)
_FIXED_SIZES = {1: 8, 5: 4}


def read_layout(path: Path) -> str:
    """Return that property of an ONNX file; empty where there is none.

    Only the outermost fields are visited. The graph is skipped, however large it is.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for number, value in _fields(content):
            if number == _METADATA_PROPS:
                entry = {part: bytes(text) for part, text in _fields(value)}
                if entry[1] == PROPERTY:
                    return entry[2].decode("utf-8", "replace")
    except (OSError, ValueError, LookupError):  # missing, empty, damaged
        pass
    return ""


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Iterate over the fields of a protobuf message that have a length: number and content."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 0:
            _, at = _varint(message, at)
        else:
            at += _FIXED_SIZES[tag & 7]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a variable-length integer; returns it and where it ends."""
    value = shift = 0
    while message[at] >= 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1
