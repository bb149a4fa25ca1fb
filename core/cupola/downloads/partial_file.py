"""A file on its way: `<name>.part`, and beside it which of its chunks have arrived. Everything here blocks.

The sidecar `<name>.chunks.part` is a line of JSON, then a digit for every chunk: "1" once all its bytes were written.
Killed at any moment, the next try therefore fetches again only what it cannot be sure of.
"""

import os
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct

from cupola.contracts import RemoteFile
from cupola.downloads.files import PART_SUFFIX, digest_name

_SIDECAR_SUFFIX = ".chunks.part"


class Superseded(Exception):  # noqa: N818 - news, not a fault
    """What was being fetched is of no use any more: the file is fetched anew, or not at all."""


class _Header(Struct, frozen=True):
    """The sidecar's first line. `version` is the server's name for what was fetched, of files without a digest."""

    size_bytes: int
    chunk_bytes: int
    digest: str
    version: str


class PartialFile:
    """What has arrived of one file. Several threads write to it; opening it takes up what an earlier try left.

    Attributes:
        file: What is being fetched. Its address may be replaced by a fresh one.
        target: Where it belongs when it is whole.
        generation: Changes whenever everything starts anew; what was asked for before is then refused.
        done_bytes: How much is there.
    """

    def __init__(self, file: RemoteFile, target: Path, chunk_bytes: int) -> None:
        self.file = file
        self.target = target
        self.part_path = target.with_name(target.name + PART_SUFFIX)
        self._sidecar_path = target.with_name(target.name + _SIDECAR_SUFFIX)
        self._lock = threading.Lock()
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._flags_at = 0
        self._streaming = self._closed = False
        self.generation = 0
        kept = self._kept()
        self._header = kept[0] if kept else _Header(file.size_bytes, chunk_bytes, digest_name(file), "")
        self._version = self._header.version or None
        self._arrived = kept[1] if kept else [False] * -(-file.size_bytes // chunk_bytes)
        self.done_bytes = sum(end - start for start, end in map(self.bounds, self._indices(arrived=True)))
        self._pending = deque(self._indices(arrived=False))

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk; the last one may be shorter."""
        return self._header.chunk_bytes

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there."""
        return all(self._arrived)

    @property
    def frontier_bytes(self) -> int:
        """How much is there without a gap, from the start."""
        with self._lock:
            first_gap = next((i for i, arrived in enumerate(self._arrived) if not arrived), len(self._arrived))
        return min(first_gap * self.chunk_bytes, self.file.size_bytes)

    def bounds(self, index: int) -> tuple[int, int]:
        """Return where a chunk begins and ends."""
        start = index * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.file.size_bytes)

    def take(self) -> tuple[int, int] | None:
        """Hand out a chunk that nobody has taken: the generation it belongs to and its index; None if there is none."""
        with self._lock:
            return (self.generation, self._pending.popleft()) if self._pending and not self._closed else None

    def accept(self, generation: int, version: str) -> None:
        """Check that an answer is of the version that the rest is of; a digest makes sure of it better.

        Raises:
            Superseded: It is not, and everything starts anew.
        """
        with self._lock:
            self._check(generation)
            if self._header.digest or self._version == version:
                return
            if self._version is None:
                self._version = version
                self._write_header(version)
                return
            self._restart(version)
            self._pending = deque(range(len(self._arrived)))
        raise Superseded

    def begin_stream(self, generation: int, version: str) -> int:
        """Start anew for a server that sends nothing but the whole file; returns the new generation.

        Raises:
            Superseded: Somebody else has done so.
        """
        with self._lock:
            self._check(generation)
            self._restart(version)
            self._streaming = True
            self._pending.clear()
            return self.generation

    @property
    def streaming(self) -> bool:
        """Whether the server sends nothing but the whole file."""
        return self._streaming

    def write(self, generation: int, offset: int, data: bytes) -> None:
        """Write a piece where it belongs.

        Raises:
            Superseded: It belongs nowhere any more.
        """
        with self._lock:
            self._check(generation)
            part, _ = self._opened()
            part.seek(offset)
            rest = memoryview(data)
            while rest:
                rest = rest[part.write(rest) :]
            self.done_bytes += len(data)

    def mark(self, generation: int, index: int) -> None:
        """Note that every byte of a chunk was written.

        Raises:
            Superseded: They count no more.
        """
        with self._lock:
            self._check(generation)
            part, sidecar = self._opened()
            if not self._header.digest:  # with one, what a power cut took is found out at the end
                os.fsync(part.fileno())
            sidecar.seek(self._flags_at + index)
            sidecar.write(b"1")
            self._arrived[index] = True

    def finish(self) -> None:
        """Put the file in its place. It is the store that flushes files with a digest, when it records them."""
        with self._lock:
            self._opened()  # an empty file has not been until now
            self._close()
            self.part_path.replace(self.target)
            self._sidecar_path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove every trace."""
        with self._lock:
            self._close()
            self.part_path.unlink(missing_ok=True)
            self._sidecar_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what is there for the next try; whoever still writes is refused."""
        with self._lock:
            self._close()

    def _opened(self) -> tuple[BinaryIO, BinaryIO]:
        """Return the file and its sidecar, opening both when they are first needed: a model may have many files."""
        if self._files is None:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            mode = "r+b" if any(self._arrived) else "w+b"
            part = _open(self.part_path, mode)
            try:
                self._files = part, _open(self._sidecar_path, mode)
            except BaseException:
                part.close()
                raise
            self._write_header(self._header.version)
        return self._files

    def _kept(self) -> tuple[_Header, list[bool]] | None:
        """Read what an earlier try left; None if there is nothing, or nothing that surely belongs to this file."""
        try:
            line, flags = self._sidecar_path.read_bytes().split(b"\n", 1)
            header = msgspec.json.decode(line, type=_Header)
            part_bytes = self.part_path.stat().st_size
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        if (header.size_bytes, header.digest) != (self.file.size_bytes, digest_name(self.file)):
            return None
        if not (header.digest or header.version) or header.chunk_bytes < 1:
            return None
        arrived = [flag == ord("1") for flag in flags]
        reach = max((index + 1 for index, there in enumerate(arrived) if there), default=0) * header.chunk_bytes
        if len(arrived) != -(-header.size_bytes // header.chunk_bytes) or part_bytes < min(reach, header.size_bytes):
            return None
        return header, arrived

    def _indices(self, *, arrived: bool) -> list[int]:
        return [index for index, there in enumerate(self._arrived) if there is arrived]

    def _restart(self, version: str) -> None:
        self.generation += 1
        self._opened()[0].truncate(0)
        self._arrived = [False] * len(self._arrived)
        self.done_bytes = 0
        self._version = version
        self._write_header(version)

    def _write_header(self, version: str) -> None:
        self._header = msgspec.structs.replace(self._header, version=version)
        line = msgspec.json.encode(self._header) + b"\n"
        flags = b"".join(b"1" if arrived else b"0" for arrived in self._arrived)
        _, sidecar = self._opened()
        sidecar.seek(0)
        sidecar.write(line + flags)  # a crash in mid-write leaves a sidecar that does not fit, which counts for nothing
        sidecar.truncate()
        self._flags_at = len(line)

    def _check(self, generation: int) -> None:
        if self._closed or generation != self.generation:
            raise Superseded

    def _close(self) -> None:
        self._closed = True
        for file in self._files or ():
            file.close()


def partial_bytes(target: Path) -> int:
    """Return the room that an earlier try has taken already for this file."""
    try:
        return target.with_name(target.name + PART_SUFFIX).stat().st_size
    except OSError:
        return 0


def _open(path: Path, mode: str) -> BinaryIO:
    return cast("BinaryIO", path.open(mode, buffering=0))
