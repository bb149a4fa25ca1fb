"""A bounded folder of small files, one per record."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from cupola_server.openai.errors import ResponseStoreError

logger = logging.getLogger(__name__)

_KEY = re.compile(r"resp_[0-9a-f]{8,64}")
_RECORD = re.compile(rf"{_KEY.pattern}\.json")
_PARTIAL = re.compile(rf"{_KEY.pattern}\.[0-9a-f]{{32}}\.partial")
_PARTIAL_LIFE_S = 3600.0


class RecordFolder:
    """Keeps the newest records under their keys, in files that only the user may read.

    A record appears whole or not at all, because it is renamed into place; after a crash a part of one may lie about
    under another name and is swept up later. There is no state but the files, so that services may share a folder.
    Everything blocks: call it on a thread, one call at a time.

    Args:
        path: The folder; made when first needed.
        limit: Records kept. The oldest goes when there are more.
        life_s: Seconds after which a record is gone.
        clock: Unix time in nanoseconds.
    """

    def __init__(self, path: Path, *, limit: int, life_s: float, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._limit = limit
        self._life_s = life_s
        self._clock = clock
        self._stamp_ns = 0

    def prepare(self) -> None:
        """Make sure that records can be kept.

        Raises:
            ResponseStoreError: The folder cannot be made or written.
        """
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(0, "permission denied"))

    def put(self, key: str, data: bytes) -> None:
        """Keep a record, in place of what was there under its key.

        Raises:
            ResponseStoreError: It could not be written; an older record of that key is still there.
        """
        self.prepare()
        partial = self._path / f"{key}.{uuid4().hex}.partial"
        try:
            try:
                _write(partial, data)
                stamp_ns = self._next_stamp()
                os.utime(partial, ns=(stamp_ns, stamp_ns))
                partial.replace(self._file(key))
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            self._sweep()
        except OSError as error:
            raise self._unusable(error) from error

    def get(self, key: str) -> bytes | None:
        """Return a record; None if there is none, or none any more.

        Raises:
            ResponseStoreError: It is there but cannot be read.
        """
        if not _KEY.fullmatch(key):
            return None
        file = self._file(key)
        try:
            if self._is_expired(file.stat().st_mtime_ns):
                file.unlink(missing_ok=True)
                return None
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def delete(self, key: str) -> bool:
        """Remove a record; False if there was none.

        Raises:
            ResponseStoreError: It could not be removed.
        """
        if self.get(key) is None:
            return False
        try:
            self._file(key).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return True

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.json"

    def _next_stamp(self) -> int:
        """Return the time, later than every one before on any file system, so that no two records are of one age."""
        self._stamp_ns = max(self._clock(), self._stamp_ns + 1000)
        return self._stamp_ns

    def _is_expired(self, written_ns: int) -> bool:
        return (self._clock() - written_ns) / 1e9 >= self._life_s

    def _sweep(self) -> None:
        """Remove what is too old, what is too many, and what a crash left behind. Files of others stay."""
        records: list[tuple[int, str]] = []
        gone: list[str] = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another service sweeps as well
                    written_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                    if _RECORD.fullmatch(entry.name):
                        records.append((written_ns, entry.path))
                    elif _PARTIAL.fullmatch(entry.name) and self._clock() - written_ns > _PARTIAL_LIFE_S * 1e9:
                        gone.append(entry.path)
        records.sort()
        too_many = max(len(records) - self._limit, 0)
        gone += [path for written_ns, path in records[too_many:] if self._is_expired(written_ns)]
        gone += [path for _, path in records[:too_many]]
        for path in gone:
            Path(path).unlink(missing_ok=True)

    def _unusable(self, error: OSError) -> ResponseStoreError:
        logger.warning("The folder of responses %s cannot be used: %s", self._path, error)
        return ResponseStoreError(detail=(error.strerror or type(error).__name__).lower())


def _write(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
