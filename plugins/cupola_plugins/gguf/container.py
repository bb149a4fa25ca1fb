"""The GGUF file format: a header of key-value metadata and tensor descriptions, then the tensors.

`gguf.GGUFReader` is not used because it trusts every length in the file: a damaged file makes it loop or allocate
without bound. This reader checks each length against the remaining bytes before it reads, and reads tensor data only
on request. Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from cupola.errors import ModelFormatError

Scalar = str | int | float | bool
Value = Scalar | list[Scalar]

_SUPPORTED_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALAR_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SMALLEST_STRING = 8  # bytes: its length alone
_SMALLEST_PAIR = 8 + 4 + 1  # an empty key, the type, one byte of value
_SMALLEST_DESCRIPTION = 8 + 4 + 4 + 8  # an empty name, the number of dimensions, the type, the offset


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The description of a tensor.

    Attributes:
        name: Its name, "blk.0.attn_q.weight".
        shape: Its dimensions in numpy's order, rows before columns; GGUF stores them reversed.
        kind: Its ggml type, which determines the block size.
        offset: Bytes from the start of the file.
        size_bytes: Its stored size.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    size_bytes: int


class GgufFile:
    """An open GGUF file whose header was checked: every tensor it describes lies inside the file.

    Use as a context manager.

    Raises:
        ModelFormatError: It is no GGUF, damaged, cut short, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        try:
            self._file = path.open("rb")
            header = _Header(path, self._file)
            self.metadata: Mapping[str, Value] = header.metadata
            self.tensors: Mapping[str, TensorEntry] = header.tensors
        except OSError as error:
            self.close()
            raise unreadable(path, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, entry: TensorEntry) -> NDArray[np.uint8]:
        """Return the stored bytes of a tensor, uint8 [size_bytes].

        Raises:
            ModelFormatError: The file cannot be read or has become shorter.
        """
        assert self._file is not None, "the file is closed"
        raw = np.empty(entry.size_bytes, np.uint8)
        try:
            self._file.seek(entry.offset)
            count = self._file.readinto(raw.data)  # type: ignore[attr-defined]
        except OSError as error:
            raise unreadable(self.path, error) from error
        if count != entry.size_bytes:
            raise ModelFormatError(path=str(self.path), detail="became shorter while it was read. Import it again.")
        return raw


def unreadable(path: Path, error: OSError) -> ModelFormatError:
    """Describe an operating system error while reading the file."""
    return ModelFormatError(path=str(path), detail=f"cannot be read: {error.strerror or error}.")


class _Header:
    """Reads the header sequentially."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0
        if self._size < 4 or self._take(4) != b"GGUF":
            raise self._problem("is not a GGUF file: it does not start with 'GGUF'. Use a file that ends in .gguf.")
        self._check_version()
        tensors, pairs = self._number("Q"), self._number("Q")
        self.metadata = dict(self._pairs(pairs))
        descriptions = list(self._descriptions(tensors))
        self.tensors = self._locate(descriptions)

    def _problem(self, detail: str) -> ModelFormatError:
        return ModelFormatError(path=str(self._path), detail=detail)

    def _damaged(self, what: str) -> ModelFormatError:
        return self._problem(f"is damaged: {what}. Download or copy the file again.")

    def _check_version(self) -> None:
        version = self._number("I")
        if version & 0xFFFF == 0:
            raise self._problem("is a big-endian GGUF file. Convert it to little-endian with gguf-convert-endian.")
        if version not in _SUPPORTED_VERSIONS:
            raise self._problem(
                f"has GGUF version {version}; only versions 2 and 3 are supported. Convert the model again."
            )

    def _take(self, count: int) -> bytes:
        if count > self._size - self._position:
            raise self._problem(
                f"is cut short or damaged: its header extends past the end of the file ({self._size} bytes). "
                f"Download or copy the file again."
            )
        self._position += count
        return self._file.read(count)

    def _number(self, code: str) -> int:
        layout = struct.Struct("<" + code)
        return int(layout.unpack(self._take(layout.size))[0])

    def _count(self, claimed: int, smallest: int, what: str) -> int:
        """Refuse a count of items that cannot fit in the rest of the file, before allocating memory."""
        if claimed * smallest > self._size - self._position:
            raise self._problem(
                f"is cut short or damaged: it declares {claimed} {what}, more than the file can hold. "
                f"Download or copy the file again."
            )
        return claimed

    def _string(self) -> str:
        try:
            return self._take(self._number("Q")).decode()
        except UnicodeDecodeError as error:
            raise self._damaged("a string in its header is not UTF-8") from error

    def _pairs(self, count: int) -> Iterator[tuple[str, Value]]:
        seen = set()
        for _ in range(self._count(count, _SMALLEST_PAIR, "metadata entries")):
            key = self._string()
            if key in seen:
                raise self._damaged(f"the metadata key {key!r} occurs twice")
            seen.add(key)
            yield key, self._value(key)

    def _value(self, key: str) -> Value:
        kind = self._number("I")
        if kind != _ARRAY:
            return self._scalars(kind, 1, key)[0]
        element, count = self._number("I"), self._number("Q")
        return self._scalars(element, count, key)

    def _scalars(self, kind: int, count: int, key: str) -> list[Scalar]:
        if kind == _STRING:
            return [self._string() for _ in range(self._count(count, _SMALLEST_STRING, f"strings in {key!r}"))]
        if kind not in _SCALAR_CODES:
            raise self._damaged(f"{key!r} has a value of the unknown type {kind}")
        code = _SCALAR_CODES[kind]
        self._count(count, struct.calcsize("<" + code), f"values in {key!r}")
        layout = struct.Struct(f"<{count}{code}")
        return list(layout.unpack(self._take(layout.size)))

    def _descriptions(self, count: int) -> Iterator[TensorEntry]:
        """Read the tensor descriptions; offsets still count from the start of the tensor data."""
        seen = set()
        for _ in range(self._count(count, _SMALLEST_DESCRIPTION, "tensors")):
            name = self._string()
            if name in seen:
                raise self._damaged(f"the tensor {name!r} occurs twice")
            seen.add(name)
            dimensions = self._number("I")
            if not 1 <= dimensions <= _MOST_DIMENSIONS:
                raise self._damaged(f"the tensor {name!r} has {dimensions} dimensions")
            shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
            kind = self._tensor_kind(name, self._number("I"))
            yield TensorEntry(name, shape, kind, self._number("Q"), self._stored_size(name, shape, kind))

    def _tensor_kind(self, name: str, kind: int) -> GGMLQuantizationType:
        try:
            return GGMLQuantizationType(kind)
        except ValueError as error:
            raise self._problem(
                f"holds {name!r} in the unknown tensor type {kind}. Use a GGUF file with a common type, "
                f"such as Q4_K_M or Q8_0, or update Cupola."
            ) from error

    def _stored_size(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
        block, block_bytes = map(int, GGML_QUANT_SIZES[kind])
        if 0 in shape or shape[-1] % block:
            raise self._damaged(f"the tensor {name!r} has the shape {shape}, which is invalid for {kind.name}")
        return math.prod(shape) // block * block_bytes

    def _locate(self, entries: list[TensorEntry]) -> dict[str, TensorEntry]:
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r}, not a power of two")
        start = -(-self._position // alignment) * alignment
        located = {}
        for entry in entries:
            end = start + entry.offset + entry.size_bytes
            if end > self._size:
                raise self._problem(
                    f"is cut short: the tensor {entry.name!r} ends at byte {end}, the file at byte {self._size}. "
                    f"Download or copy the file again."
                )
            located[entry.name] = TensorEntry(
                entry.name, entry.shape, entry.kind, start + entry.offset, entry.size_bytes
            )
        return located
