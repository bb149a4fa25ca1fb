"""A partial file: `<name>.part`, and a sidecar that records its complete chunks. Everything here blocks.

The sidecar `<name>.chunks.part` is a line of JSON, followed by one digit for each chunk: "1" once all of its bytes were
written. If the process is killed at any moment, the next attempt downloads only the chunks without a "1".
"""

import os
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct

from cupola.contracts import RemoteFile
from cupola.downloads.files import PART_SUFFIX, announced_digest

_SIDECAR_SUFFIX = ".chunks.part"


class StaleChunkError(Exception):
    """The chunk is no longer needed: the file was restarted, or the transfer was stopped."""


class _Header(Struct, frozen=True):
    """The first line of the sidecar. `version` identifies the server's content, for files without a digest."""

    size_bytes: int
    chunk_bytes: int
    digest: str
    version: str


class PartialFile:
    """The received data of one file. Several threads write to it. Creating one resumes an earlier attempt.

    Attributes:
        file: The announced file. It is replaced when its URL expires.
        target: The path of the complete file.
        generation: Increases whenever the download of the file restarts from the beginning. Writes that belong to an
            earlier generation raise `StaleChunkError`.
        done_bytes: The number of received bytes.
    """

    def __init__(self, file: RemoteFile, target: Path, chunk_bytes: int) -> None:
        self.file = file
        self.target = target
        self.part_path = target.with_name(target.name + PART_SUFFIX)
        self._sidecar_path = target.with_name(target.name + _SIDECAR_SUFFIX)
        self._lock = threading.Lock()
        self._handles: tuple[BinaryIO, BinaryIO] | None = None
        self._flags_offset = 0
        self._closed = False
        self.generation = 0
        saved = self._load_sidecar()
        self._header = saved[0] if saved else _Header(file.size_bytes, chunk_bytes, announced_digest(file), "")
        self._version = self._header.version or None
        self._complete = saved[1] if saved else [False] * -(-file.size_bytes // chunk_bytes)
        self.done_bytes = sum(end - start for start, end in map(self.bounds, self._indices(complete=True)))
        self._pending = deque(self._indices(complete=False))

    @property
    def chunk_bytes(self) -> int:
        """The size of a chunk; the last one may be shorter."""
        return self._header.chunk_bytes

    @property
    def contiguous_bytes(self) -> int:
        """The number of bytes from the start of the file to the first incomplete chunk."""
        with self._lock:
            first_gap = next((i for i, complete in enumerate(self._complete) if not complete), len(self._complete))
        return min(first_gap * self.chunk_bytes, self.file.size_bytes)

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the offsets at which a chunk begins and ends."""
        start = index * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.file.size_bytes)

    def next_chunk(self) -> tuple[int, int] | None:
        """Return the generation and index of a chunk that no thread downloads yet; None if there is none."""
        with self._lock:
            return (self.generation, self._pending.popleft()) if self._pending and not self._closed else None

    def check_version(self, generation: int, version: str) -> None:
        """Check that a response has the version of the data received so far. Files with a digest need no check.

        Raises:
            StaleChunkError: The version differs. The download of the file restarts from the beginning.
        """
        with self._lock:
            self._check_generation(generation)
            if self._header.digest or self._version == version:
                return
            if self._version is None:
                self._version = version
                self._write_header(version)
                return
            self._restart(version)
            self._pending = deque(range(len(self._complete)))
        raise StaleChunkError

    def restart_as_stream(self, generation: int, version: str) -> int:
        """Restart the file for a server that ignores byte ranges. The calling thread downloads all of its chunks.

        Returns:
            The new generation.

        Raises:
            StaleChunkError: Another thread has restarted it.
        """
        with self._lock:
            self._check_generation(generation)
            self._restart(version)
            self._pending.clear()
            return self.generation

    def write(self, generation: int, offset: int, data: bytes) -> None:
        """Write received data.

        Raises:
            StaleChunkError: The data belongs to an earlier generation.
            OSError: The data cannot be written.
        """
        with self._lock:
            self._check_generation(generation)
            part, _ = self._open_files()
            part.seek(offset)
            rest = memoryview(data)
            while rest:
                rest = rest[part.write(rest) :]
            self.done_bytes += len(data)

    def mark_complete(self, generation: int, index: int) -> None:
        """Record that every byte of a chunk was written.

        Raises:
            StaleChunkError: The chunk belongs to an earlier generation.
            OSError: The sidecar cannot be written.
        """
        with self._lock:
            self._check_generation(generation)
            part, sidecar = self._open_files()
            if not self._header.digest:  # a digest detects at the end what a power failure lost
                os.fsync(part.fileno())
            sidecar.seek(self._flags_offset + index)
            sidecar.write(b"1")
            self._complete[index] = True

    def finish(self) -> None:
        """Move the complete file to its target. The cache store flushes files with a digest when it commits them."""
        with self._lock:
            self._open_files()  # creates an empty file, for which nothing was written
            self._close()
            self.part_path.replace(self.target)
            self._sidecar_path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete the partial file and its sidecar."""
        with self._lock:
            self._close()
            self.part_path.unlink(missing_ok=True)
            self._sidecar_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files and keep them for the next attempt. Later writes raise `StaleChunkError`."""
        with self._lock:
            self._close()

    def _open_files(self) -> tuple[BinaryIO, BinaryIO]:
        """Return the file and its sidecar. They are opened on first use, because a model may have many files."""
        if self._handles is None:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            mode = "r+b" if any(self._complete) else "w+b"
            part = _open_unbuffered(self.part_path, mode)
            try:
                self._handles = part, _open_unbuffered(self._sidecar_path, mode)
            except BaseException:
                part.close()
                raise
            self._write_header(self._header.version)
        return self._handles

    def _load_sidecar(self) -> tuple[_Header, list[bool]] | None:
        """Load the state of an earlier attempt; None if there is none, or if it may belong to another file."""
        try:
            line, flags = self._sidecar_path.read_bytes().split(b"\n", 1)
            header = msgspec.json.decode(line, type=_Header)
            part_bytes = self.part_path.stat().st_size
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        if (header.size_bytes, header.digest) != (self.file.size_bytes, announced_digest(self.file)):
            return None
        if not (header.digest or header.version) or header.chunk_bytes < 1:
            return None
        complete = [flag == ord("1") for flag in flags]
        last_end = max((index + 1 for index, is_set in enumerate(complete) if is_set), default=0) * header.chunk_bytes
        if len(complete) != -(-header.size_bytes // header.chunk_bytes) or part_bytes < min(
            last_end, header.size_bytes
        ):
            return None
        return header, complete

    def _indices(self, *, complete: bool) -> list[int]:
        return [index for index, is_set in enumerate(self._complete) if is_set is complete]

    def _restart(self, version: str) -> None:
        self.generation += 1
        self._open_files()[0].truncate(0)
        self._complete = [False] * len(self._complete)
        self.done_bytes = 0
        self._version = version
        self._write_header(version)

    def _write_header(self, version: str) -> None:
        self._header = msgspec.structs.replace(self._header, version=version)
        line = msgspec.json.encode(self._header) + b"\n"
        flags = b"".join(b"1" if complete else b"0" for complete in self._complete)
        _, sidecar = self._open_files()
        sidecar.seek(0)
        sidecar.write(line + flags)  # after a crash during this write the sidecar is invalid and is ignored
        sidecar.truncate()
        self._flags_offset = len(line)

    def _check_generation(self, generation: int) -> None:
        if self._closed or generation != self.generation:
            raise StaleChunkError

    def _close(self) -> None:
        self._closed = True
        for handle in self._handles or ():
            handle.close()


def partial_size_bytes(target: Path) -> int:
    """Return the disk space that the partial file of a target uses."""
    try:
        return target.with_name(target.name + PART_SUFFIX).stat().st_size
    except OSError:
        return 0


def _open_unbuffered(path: Path, mode: str) -> BinaryIO:
    return cast("BinaryIO", path.open(mode, buffering=0))
