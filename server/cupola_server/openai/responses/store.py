"""Stores responses as files in a folder, without blocking the event loop."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import msgspec
from anyio import CapacityLimiter, to_thread

from cupola.frontend import Settings
from cupola_server.openai.errors import ResponseStoreError
from cupola_server.openai.responses.response import StoredResponse

logger = logging.getLogger(__name__)
_DAY_S = 86_400.0
_KEY = re.compile(r"resp_[0-9a-f]{8,64}")
_RECORD = re.compile(rf"{_KEY.pattern}\.json")
_PARTIAL = re.compile(rf"{_KEY.pattern}\.[0-9a-f]{{32}}\.partial")
_PARTIAL_TTL_S = 3600.0


class ResponseStore:
    """Stores responses for later requests.

    Files that cannot be decoded, because they are damaged or from another version, are ignored.
    """

    def __init__(self, folder: "RecordFolder") -> None:
        self._folder = folder
        self._decoder = msgspec.json.Decoder(StoredResponse)
        self._one_at_a_time: CapacityLimiter | None = None

    @staticmethod
    def from_settings(settings: Settings) -> "ResponseStore":
        """Create the store from the settings. Nothing is written before the first response."""
        limits = settings.responses
        return ResponseStore(
            RecordFolder(settings.responses_dir, limit=limits.max_stored, ttl_s=limits.ttl_days * _DAY_S)
        )

    async def prepare(self) -> None:
        """Check that responses can be stored.

        Raises:
            ResponseStoreError: The folder cannot be created or written.
        """
        await to_thread.run_sync(self._folder.prepare, limiter=self._limiter())

    async def put(self, record: StoredResponse) -> None:
        """Store a response, replacing its earlier state.

        Raises:
            ResponseStoreError: It could not be written.
        """
        data = msgspec.json.encode(record)
        await to_thread.run_sync(self._folder.put, record.response.id, data, limiter=self._limiter())

    async def get(self, id: str) -> StoredResponse | None:  # noqa: A002 - the API's name
        """Return a response; None if it is not stored.

        Raises:
            ResponseStoreError: Its file cannot be read.
        """
        data = await to_thread.run_sync(self._folder.get, id, limiter=self._limiter())
        if data is None:
            return None
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("The stored response %s is damaged and is ignored: %s", id, error)
            return None

    async def delete(self, id: str) -> bool:  # noqa: A002 - the API's name
        """Delete a response; False if it was not stored.

        Raises:
            ResponseStoreError: It could not be deleted.
        """
        return await to_thread.run_sync(self._folder.delete, id, limiter=self._limiter())

    def _limiter(self) -> CapacityLimiter:
        """Return the limiter that serialises access to the folder, created inside the event loop that it belongs to."""
        if self._one_at_a_time is None:
            self._one_at_a_time = CapacityLimiter(1)
        return self._one_at_a_time


class RecordFolder:
    """Stores the newest records by key, in files that only the user can read.

    Records are renamed into place, so they are complete or absent. Partial files of a crash are deleted later. The
    files are the only state, so several services may share a folder. All methods block; call them in a thread, one
    at a time.

    Args:
        path: The folder, created when it is first needed.
        limit: Maximum number of records; the oldest are deleted.
        ttl_s: Seconds after which a record is deleted.
        clock: Returns the Unix time in nanoseconds.
    """

    def __init__(self, path: Path, *, limit: int, ttl_s: float, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._limit = limit
        self._ttl_s = ttl_s
        self._clock = clock
        self._stamp_ns = 0

    def prepare(self) -> None:
        """Create the folder, and check that it is writable.

        Raises:
            ResponseStoreError: The folder cannot be created or written.
        """
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(0, "permission denied"))

    def put(self, key: str, data: bytes) -> None:
        """Store a record, replacing an earlier one with its key.

        Raises:
            ResponseStoreError: It could not be written; an earlier record remains.
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
        """Return a record; None if there is none, or it has expired.

        Raises:
            ResponseStoreError: It cannot be read.
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
        """Delete a record; False if there was none.

        Raises:
            ResponseStoreError: It could not be deleted.
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
        """Return the current time, at least a microsecond after the previous one, so that all ages differ."""
        self._stamp_ns = max(self._clock(), self._stamp_ns + 1000)
        return self._stamp_ns

    def _is_expired(self, written_ns: int) -> bool:
        return (self._clock() - written_ns) / 1e9 >= self._ttl_s

    def _sweep(self) -> None:
        """Delete expired and excess records, and partial files of crashes. Other files are left alone."""
        records: list[tuple[int, str]] = []
        deleted: list[str] = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another service deleted it
                    written_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                    if _RECORD.fullmatch(entry.name):
                        records.append((written_ns, entry.path))
                    elif _PARTIAL.fullmatch(entry.name) and self._clock() - written_ns > _PARTIAL_TTL_S * 1e9:
                        deleted.append(entry.path)
        records.sort()
        excess = max(len(records) - self._limit, 0)
        deleted += [path for written_ns, path in records[excess:] if self._is_expired(written_ns)]
        deleted += [path for _, path in records[:excess]]
        for path in deleted:
            Path(path).unlink(missing_ok=True)

    def _unusable(self, error: OSError) -> ResponseStoreError:
        logger.warning("The folder of responses %s cannot be used: %s", self._path, error)
        return ResponseStoreError(detail=(error.strerror or type(error).__name__).lower())


def _write(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
