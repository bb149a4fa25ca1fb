"""Fetches the chunks of files, and tries again where that may help. Blocks; every thread of a transfer uses one."""

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
from cupola.downloads.connections import AddressError, Answer, Connections, cause_text, without_query
from cupola.downloads.partial_file import PartialFile, Superseded
from cupola.errors import CacheError, DigestMismatchError, DownloadError
from cupola.settings import DownloadSettings

_READ_BYTES = 1 << 18
_WORTH_A_NEW_START_BYTES = 1 << 16
_NEXT_TO_NOTHING_BYTES_PER_S = 100
_REFUSED = (401, 403)
_PASSING = (408, 429)


class _PassingError(Exception):
    """A fault that may be gone at the next try, and when the server says that should be."""

    def __init__(self, reason: str, asked_s: float | None = None) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


class _RefusedError(Exception):
    """The address may have expired."""


@dataclass(slots=True)
class _Span:
    """What one thread fetches: from `offset` to `end`. Chunks from `index` on are not marked yet."""

    part: PartialFile
    generation: int
    index: int
    offset: int
    end: int
    alone: bool = False

    def advance(self, data: bytes) -> None:
        self.part.write(self.generation, self.offset, data)
        self.offset += len(data)
        while self.index * self.part.chunk_bytes < self.end and self.part.bounds(self.index)[1] <= self.offset:
            self.part.mark(self.generation, self.index)
            self.index += 1

    def start_over(self, version: str) -> None:
        """Take on the whole file, for a server that sends nothing less."""
        self.generation = self.part.begin_stream(self.generation, version)
        self.index, self.offset, self.end, self.alone = 0, 0, self.part.file.size_bytes, True

    @property
    def is_whole_file(self) -> bool:
        return self.offset == 0 and self.end == self.part.file.size_bytes


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches chunks for a transfer.

    Attributes:
        connections, pacing, settings: What the threads share.
        model_id: For messages.
        stopped: Set when nothing counts any more.
        renew: Blocks until the file has another address than the one given, if there is a way; False if there is none.
        explain: Turns what the disk says into our words.
    """

    connections: Connections
    pacing: "Pacing"
    settings: DownloadSettings
    model_id: str
    stopped: threading.Event
    renew: Callable[[PartialFile, str], bool]
    explain: Callable[[OSError], CacheError]

    def fetch(self, part: PartialFile, generation: int, index: int) -> None:
        """Bring one chunk.

        Raises:
            DownloadError: In spite of all retries it did not come; `DigestMismatchError` if it cannot be the right one.
            CacheError: The disk has a fault.
            Superseded: The chunk is of no use any more.
        """
        span = _Span(part, generation, index, *part.bounds(index))
        attempts, refusals = 0, 0
        while span.offset < span.end:
            self.pacing.wait_turn()
            self._check_stopped()
            if span.alone:
                span.offset = 0
            before, url = span.offset, part.file.url
            try:
                self._request(span, url)
            except _RefusedError as error:
                refusals = refusals + 1 if span.offset == before else 1
                if refusals > 1 + self.settings.retries or not self.renew(part, url):
                    raise self._failure(url, str(error)) from error
            except _PassingError as error:
                came = 0 if span.alone else span.offset - before
                attempts = attempts + 1 if came < _WORTH_A_NEW_START_BYTES else 1
                if attempts > self.settings.retries:
                    tried = f" ({attempts} attempts in a row)" if attempts > 1 else ""
                    raise self._failure(url, f"{error}{tried}") from error
                self.pacing.pause(attempts, error.asked_s)

    def _request(self, span: _Span, url: str) -> None:
        """Ask for the rest of a span once, and write what comes."""
        asked = {} if span.is_whole_file else {"Range": f"bytes={span.offset}-{span.end - 1}"}
        with self._http_faults(url):
            answer = self.connections.get(url, asked)
            try:
                self._check_status(answer, span, url)
                self._check_answer(answer, span, url)
                self._receive(answer, span, url)
            finally:
                self.connections.put_back(answer, url)
        if span.offset < span.end:
            size = _bytes(span.part.file.size_bytes)
            raise _PassingError(f"the answer ended after {span.offset:,} of {size}")

    def _receive(self, answer: Answer, span: _Span, url: str) -> None:
        since, received, limit_s = time.monotonic(), 0, self.settings.stall_timeout_s
        while data := answer.read(_READ_BYTES):
            self._check_stopped()
            if span.offset + len(data) > span.end:
                raise self._mismatch(span.part.file, url, "more")
            try:
                span.advance(data)
            except OSError as error:
                raise self.explain(error) from error
            since += self.pacing.take(len(data))
            received += len(data)
            if time.monotonic() - since > limit_s:
                if received < limit_s * _NEXT_TO_NOTHING_BYTES_PER_S:
                    raise _PassingError(f"stalled: {received:,} bytes in {limit_s:g} s")
                since, received = time.monotonic(), 0

    def _check_status(self, answer: Answer, span: _Span, url: str) -> None:
        status = answer.status
        reason = f"the server answered {status} {answer.reason}"
        if status in _PASSING or status >= 500:
            raise _PassingError(reason, retry_after_s(answer.headers))
        if status in _REFUSED:
            raise _RefusedError(reason)
        if status == 416:
            raise self._mismatch(span.part.file, url, f"at most {_bytes(span.offset)}")
        if status not in (200, 206):
            raise self._failure(url, reason)

    def _check_answer(self, answer: Answer, span: _Span, url: str) -> None:
        """Make sure that the first byte is the one asked for, and that the file has the announced length."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status == 200:
            announced = answer.headers.get("Content-Length", "*")
        elif match and int(match[1]) == span.offset:
            announced = match[2]
        else:
            raise self._failure(url, "the server answered with another range")
        if announced.isdigit() and int(announced) != span.part.file.size_bytes:
            raise self._mismatch(span.part.file, url, _bytes(int(announced)))
        try:
            if answer.status == 206 or (span.is_whole_file and not span.alone):
                span.part.accept(span.generation, _version(answer))
            else:
                span.start_over(_version(answer))
        except OSError as error:
            raise self.explain(error) from error

    @contextmanager
    def _http_faults(self, url: str) -> Iterator[None]:
        """Tell the faults of connections that may pass from those that will not."""
        try:
            yield
        except (AddressError, ssl.SSLCertVerificationError, http.client.InvalidURL, ValueError) as error:
            self._check_stopped()
            raise self._failure(url, cause_text(error)) from error
        except (OSError, http.client.HTTPException) as error:
            self._check_stopped()
            raise _PassingError(cause_text(error)) from error

    def _check_stopped(self) -> None:
        if self.stopped.is_set():
            raise Superseded

    def _failure(self, url: str, reason: str) -> DownloadError:
        return DownloadError(model=self.model_id, detail=f"{without_query(url)}: {reason}")

    def _mismatch(self, file: RemoteFile, url: str, actual: str) -> DigestMismatchError:
        expected = _bytes(file.size_bytes)
        return mismatch(file, self.model_id, url=url, expected=expected, actual=actual)


def mismatch(file: RemoteFile, model_id: str, *, url: str, expected: str, actual: str) -> DigestMismatchError:
    """Say that a file is not the announced one."""
    detail = f"{without_query(url)}: {file.path} is not what was announced"
    return DigestMismatchError(model=model_id, detail=detail, file=file.path, expected=expected, actual=actual)


def _version(answer: Answer) -> str:
    """Name the version of what the server sends; a weak ETag does not promise equal bytes (RFC 9110, 13.1.5)."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _bytes(count: int) -> str:
    return f"{count:,} bytes"


_LONGEST_PAUSE_S = 30.0
_LONGEST_ASKED_S = 300.0


class Pacing:
    """Shared by all threads of a transfer. Waiting ends at once when the transfer is stopped.

    Args:
        stopped: Set when nothing counts any more.
        bytes_per_s: Most to take; 0 sets no limit.
        first_pause_s: Before the first retry.
    """

    def __init__(self, stopped: threading.Event, *, bytes_per_s: float, first_pause_s: float) -> None:
        self._stopped = stopped
        self._bytes_per_s = bytes_per_s
        self._first_pause_s = first_pause_s
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._held_until = 0.0

    def take(self, size_bytes: int) -> float:
        """Wait until so many bytes are within the limit; returns how long that took, in seconds."""
        if not self._bytes_per_s:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size_bytes / self._bytes_per_s
            wait_s = self._free_at - now
        self._stopped.wait(wait_s)
        return wait_s

    def pause(self, attempt: int, asked_s: float | None) -> None:
        """Wait before a retry, the first being attempt 1: as long as the server asks, else longer each time.

        The jitter keeps connections that broke together from coming back together.
        """
        if asked_s is not None:
            with self._lock:
                self._held_until = max(self._held_until, time.monotonic() + asked_s)
            self.wait_turn()
            return
        longest_s = min(_LONGEST_PAUSE_S, self._first_pause_s * 2 ** (attempt - 1))
        self._stopped.wait(longest_s * random.uniform(0.5, 1))  # noqa: S311 - nothing secret about it

    def wait_turn(self) -> None:
        """Wait as long as the server asked anybody to."""
        self._stopped.wait(max(0.0, self._held_until - time.monotonic()))


def retry_after_s(headers: Message) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3); None if there is none, or more than five minutes."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text.isdecimal() else (_date(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(0.0, seconds), _LONGEST_ASKED_S)


def _date(text: str) -> datetime:
    date = email.utils.parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
