"""A file on its way: `<name>.part`, and the digest of what it holds. Everything here blocks: call it in a thread."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from anyio import from_thread

PART_SUFFIX = ".part"
_READ_BYTES = 1 << 20


class PartialFile:
    """What has arrived of one file. Opening it takes up what an earlier try left.

    Attributes:
        size_bytes: How much is there.
        validator: The server's name for the version this is a part of (ETag or Last-Modified), "" if unknown.
    """

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._target = target
        self._path = target.with_name(target.name + PART_SUFFIX)
        self._validator_path = target.with_name(target.name + ".version" + PART_SUFFIX)
        self.validator = self._validator_path.read_text("utf-8") if self._validator_path.exists() else ""
        self._file: BinaryIO = self._path.open("a+b", buffering=0)
        self.size_bytes = os.fstat(self._file.fileno()).st_size
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0

    def sha256(self) -> str:
        """Return the digest of everything that is there. Reads only what an earlier try wrote."""
        if self._hashed_bytes < self.size_bytes:
            self._file.seek(self._hashed_bytes)
            while data := self._file.read(_READ_BYTES):
                from_thread.check_cancelled()
                self._digest(data)
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        if self._hashed_bytes == self.size_bytes:  # else `sha256` reads it all, what was there before comes first
            self._digest(data)
        self.size_bytes += len(data)

    def restart(self, validator: str = "") -> None:
        """Throw away what is there, and note the version of what comes."""
        if self.size_bytes:
            self._file.truncate(0)
        self.size_bytes = self._hashed_bytes = 0
        self._hash = hashlib.sha256()
        self.validator = validator
        self._validator_path.write_text(validator, "utf-8")

    def finish(self) -> None:
        """Put the file in its place, durably."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(self._target)
        self._validator_path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove every trace."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._validator_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what is there for the next try."""
        self._file.close()

    def _digest(self, data: bytes) -> None:
        self._hash.update(data)
        self._hashed_bytes += len(data)


def sha256_of(path: Path) -> str:
    """Return the digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            from_thread.check_cancelled()
            digest.update(data)
    return digest.hexdigest()
