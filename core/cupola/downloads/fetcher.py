"""Fetches chunks of files with byte range requests, and retries transient errors.

Everything here blocks. The threads of a transfer share one `Fetcher` and one `Throttle`.
"""

import email.utils
import http.client
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message

from cupola.contracts import RemoteFile
from cupola.downloads.connections import ConnectionPool, InvalidUrlError, Response, describe_error, redact_url
from cupola.downloads.partial_file import PartialFile, StaleChunkError
from cupola.errors import CacheError, DigestMismatchError, DownloadError
from cupola.settings import DownloadSettings

_READ_BYTES = 1 << 18
_MIN_PROGRESS_BYTES = 1 << 16  # an attempt that received this much resets the retry count
_STALLED_BYTES_PER_S = 100
_MAX_BACKOFF_S = 30.0
_MAX_RETRY_AFTER_S = 300.0
_EXPIRED_STATUSES = (401, 403)
_TRANSIENT_STATUSES = (408, 429)


class Throttle:
    """The speed limit and the pauses before retries. Every wait ends at once when the transfer is stopped.

    Args:
        stopped: Set when the transfer is stopped.
        bytes_per_s: The speed limit; 0 for none.
        first_pause_s: The longest pause before the first retry. It doubles with every further retry, up to 30 s.
    """

    def __init__(self, stopped: threading.Event, *, bytes_per_s: float, first_pause_s: float) -> None:
        self._stopped = stopped
        self._bytes_per_s = bytes_per_s
        self._first_pause_s = first_pause_s
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._retry_at = 0.0

    def limit_speed(self, size_bytes: int) -> float:
        """Wait until the speed limit allows this many bytes; returns the length of the wait in seconds."""
        if not self._bytes_per_s:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size_bytes / self._bytes_per_s
            wait_s = self._free_at - now
        self._stopped.wait(wait_s)
        return wait_s

    def pause(self, attempt: int, retry_after_s: float | None) -> None:
        """Wait before a retry; the first one has attempt 1. A Retry-After of the server replaces the backoff.

        Jitter spreads the retries of connections that failed at the same moment.
        """
        if retry_after_s is not None:
            with self._lock:
                self._retry_at = max(self._retry_at, time.monotonic() + retry_after_s)
            self.wait_for_server()
            return
        backoff_s = min(_MAX_BACKOFF_S, self._first_pause_s * 2 ** (attempt - 1))
        self._stopped.wait(backoff_s * random.uniform(0.5, 1))  # noqa: S311 - not a security feature

    def wait_for_server(self) -> None:
        """Wait until the latest Retry-After of the server, to whichever request, has passed."""
        self._stopped.wait(max(0.0, self._retry_at - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches the chunks of a transfer.

    Attributes:
        connections, throttle, settings: Shared by all threads.
        model_id: For error messages.
        stopped: Set when the transfer is stopped.
        refresh_url: Called with a file and its expired URL. Blocks until the file has a new URL; returns whether it
            has one.
        wrap_os_error: Turns an error of the disk into a `CacheError`.
    """

    connections: ConnectionPool
    throttle: Throttle
    settings: DownloadSettings
    model_id: str
    stopped: threading.Event
    refresh_url: Callable[[PartialFile, str], bool]
    wrap_os_error: Callable[[OSError], CacheError]

    def fetch(self, part: PartialFile, generation: int, index: int) -> None:
        """Fetch one chunk and write it to the partial file.

        Raises:
            DownloadError: All retries failed; `DigestMismatchError` if the file has another size than announced.
            CacheError: The disk failed.
            StaleChunkError: The chunk is no longer needed.
        """
        span = _ByteRange(part, generation, index, *part.bounds(index))
        attempts, refusals = 0, 0
        while span.offset < span.end:
            self.throttle.wait_for_server()
            self._check_stopped()
            if span.is_stream:
                span.offset = 0
            before, url = span.offset, part.file.url
            try:
                self._request(span, url)
            except _ExpiredUrlError as error:
                refusals = refusals + 1 if span.offset == before else 1
                if refusals > 1 + self.settings.retries or not self.refresh_url(part, url):
                    raise self._error(url, str(error)) from error
            except _TransientError as error:
                received = 0 if span.is_stream else span.offset - before
                attempts = attempts + 1 if received < _MIN_PROGRESS_BYTES else 1
                if attempts > self.settings.retries:
                    count = f" ({attempts} attempts in a row)" if attempts > 1 else ""
                    raise self._error(url, f"{error}{count}") from error
                self.throttle.pause(attempts, error.retry_after_s)

    def _request(self, span: "_ByteRange", url: str) -> None:
        """Send one request for the rest of a range, and write the response."""
        headers = {} if span.is_whole_file else {"Range": f"bytes={span.offset}-{span.end - 1}"}
        with self._connection_errors(url):
            response = self.connections.get(url, headers)
            try:
                self._check_status(response, span, url)
                self._check_range(response, span, url)
                self._receive(response, span, url)
            finally:
                self.connections.release(response, url)
        if span.offset < span.end:
            size = _format_bytes(span.part.file.size_bytes)
            raise _TransientError(f"the response ended after {span.offset:,} of {size}")

    def _receive(self, response: Response, span: "_ByteRange", url: str) -> None:
        since, received, limit_s = time.monotonic(), 0, self.settings.stall_timeout_s
        while data := response.read(_READ_BYTES):
            self._check_stopped()
            if span.offset + len(data) > span.end:
                raise self._mismatch(span.part.file, url, "more")
            try:
                span.write(data)
            except OSError as error:
                raise self.wrap_os_error(error) from error
            since += self.throttle.limit_speed(len(data))
            received += len(data)
            if time.monotonic() - since > limit_s:
                if received < limit_s * _STALLED_BYTES_PER_S:
                    raise _TransientError(f"stalled: {received:,} bytes in {limit_s:g} s")
                since, received = time.monotonic(), 0

    def _check_status(self, response: Response, span: "_ByteRange", url: str) -> None:
        status = response.status
        reason = f"the server answered {status} {response.reason}"
        if status in _TRANSIENT_STATUSES or status >= 500:
            raise _TransientError(reason, parse_retry_after(response.headers))
        if status in _EXPIRED_STATUSES:
            raise _ExpiredUrlError(reason)
        if status == 416:
            raise self._mismatch(span.part.file, url, f"at most {_format_bytes(span.offset)}")
        if status not in (200, 206):
            raise self._error(url, reason)

    def _check_range(self, response: Response, span: "_ByteRange", url: str) -> None:
        """Check that the body starts at the requested offset, and that the file has the announced size."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status == 200:
            total = response.headers.get("Content-Length", "*")
        elif match and int(match[1]) == span.offset:
            total = match[2]
        else:
            raise self._error(url, "the server sent another byte range than requested")
        if total.isdigit() and int(total) != span.part.file.size_bytes:
            raise self._mismatch(span.part.file, url, _format_bytes(int(total)))
        try:
            if response.status == 206 or (span.is_whole_file and not span.is_stream):
                span.part.check_version(span.generation, _content_version(response))
            else:
                span.restart_as_stream(_content_version(response))
        except OSError as error:
            raise self.wrap_os_error(error) from error

    @contextmanager
    def _connection_errors(self, url: str) -> Iterator[None]:
        """Turn errors of connections into `_TransientError`, or into `DownloadError` if a retry cannot help."""
        try:
            yield
        except (InvalidUrlError, ssl.SSLCertVerificationError, http.client.InvalidURL, ValueError) as error:
            self._check_stopped()
            raise self._error(url, describe_error(error)) from error
        except (OSError, http.client.HTTPException) as error:
            self._check_stopped()
            raise _TransientError(describe_error(error)) from error

    def _check_stopped(self) -> None:
        if self.stopped.is_set():
            raise StaleChunkError

    def _error(self, url: str, reason: str) -> DownloadError:
        return DownloadError(model=self.model_id, detail=f"{redact_url(url)}: {reason}")

    def _mismatch(self, file: RemoteFile, url: str, actual: str) -> DigestMismatchError:
        expected = _format_bytes(file.size_bytes)
        return mismatch_error(file, self.model_id, url=url, expected=expected, actual=actual)


class _TransientError(Exception):
    """An error that a retry may solve. `retry_after_s` is the server's Retry-After, if it sent one."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class _ExpiredUrlError(Exception):
    """The server refused the URL, whose signature may have expired."""


@dataclass(slots=True)
class _ByteRange:
    """The bytes from `offset` to `end` that one thread fetches. Chunks from `index` on are not complete yet.

    `is_stream` is set once the server ignores byte ranges, so that this thread fetches the whole file.
    """

    part: PartialFile
    generation: int
    index: int
    offset: int
    end: int
    is_stream: bool = False

    def write(self, data: bytes) -> None:
        self.part.write(self.generation, self.offset, data)
        self.offset += len(data)
        while self.index * self.part.chunk_bytes < self.end and self.part.bounds(self.index)[1] <= self.offset:
            self.part.mark_complete(self.generation, self.index)
            self.index += 1

    def restart_as_stream(self, version: str) -> None:
        self.generation = self.part.restart_as_stream(self.generation, version)
        self.index, self.offset, self.end, self.is_stream = 0, 0, self.part.file.size_bytes, True

    @property
    def is_whole_file(self) -> bool:
        return self.offset == 0 and self.end == self.part.file.size_bytes


def mismatch_error(file: RemoteFile, model_id: str, *, url: str, expected: str, actual: str) -> DigestMismatchError:
    """Return the error for a file whose size or digest is not the announced one."""
    detail = f"{redact_url(url)}: {file.path} does not match the catalog"
    return DigestMismatchError(model=model_id, detail=detail, file=file.path, expected=expected, actual=actual)


def parse_retry_after(headers: Message) -> float | None:
    """Parse Retry-After, which is in seconds or a date (RFC 9110, 10.2.3).

    Returns:
        Seconds from now, at most 300; None if the header is missing or invalid.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text.isdecimal() else (_parse_date(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER_S)


def _parse_date(text: str) -> datetime:
    date = email.utils.parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _content_version(response: Response) -> str:
    """Return the ETag or the Last-Modified. A weak ETag does not guarantee equal bytes (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _format_bytes(count: int) -> str:
    return f"{count:,} bytes"
