"""Asks Foundry's services over HTTP: patiently where waiting helps, and without a word about signatures."""

import logging
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
import httpx

logger = logging.getLogger(__name__)
T = TypeVar("T")

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_MOST_BYTES = 64 << 20
_CONNECT_TIMEOUT_S = 8.0
_LONGEST_WAIT_S = 30.0


class UnreachableError(Exception):
    """Nobody gave a usable answer: no connection, overloaded, broken off, damaged. Another region or hour may."""


class RefusedError(Exception):
    """The service answered that it will not; asking again does not help. `status` is its HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try.

    Attributes:
        attempts: Requests to one address, at most.
        first_pause_s: Wait before the second; doubles each time, with up to half as much again by chance.
        timeout_s: For one attempt, whole.
        offline: Whether to try again when not even a connection comes about. Somebody without a network, who has a
            remembered answer, should not wait for it.
    """

    attempts: int = 4
    first_pause_s: float = 0.5
    timeout_s: float = 15.0
    offline: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask, at each of some addresses that hold the same."""

    method: str
    addresses: Sequence[str]
    headers: Mapping[str, str]
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    headers: httpx.Headers
    body: bytes


@dataclass(slots=True)
class _Failure(Exception):  # noqa: N818 - carries the wait to the loop that does it, and goes no further
    """An attempt that may be repeated."""

    cause: str
    wait_s: float | None = None
    is_offline: bool = False


class Client:
    """Proxies and certificates come from the usual environment variables (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE)."""

    def __init__(self, http: httpx.AsyncClient, patience: Patience) -> None:
        self._http = http
        self._patience = patience

    async def ask(self, request: Request, read: Callable[[bytes, httpx.Headers], T]) -> T:
        """Return what `read` makes of the answer of the first address that gives a usable one.

        Only 408, 429, 5xx, broken connections and answers that `read` raises ValueError at are tried again, or
        elsewhere. `Retry-After` is kept to.

        Raises:
            UnreachableError: No address gave a usable answer.
            RefusedError: One answered with any other status.
        """
        causes = []
        for address in request.addresses:
            try:
                return await self._ask_one(address, request, read)
            except UnreachableError as error:
                causes.append(str(error))
                logger.info("%s", error)
        more = f" ({len(causes) - 1} other regions failed as well)" if len(causes) > 1 else ""
        raise UnreachableError(causes[0] + more)

    async def _ask_one(self, address: str, request: Request, read: Callable[[bytes, httpx.Headers], T]) -> T:
        attempts = self._patience.attempts if len(request.addresses) == 1 else min(2, self._patience.attempts)
        for attempt in range(attempts):
            try:
                answer = await self._attempt(address, request)
                return read(answer.body, answer.headers)
            except ValueError as error:
                failure = _Failure(f"the answer is damaged: {error}")
            except _Failure as error:
                failure = error
            pause_s = self._patience.first_pause_s * 2**attempt * random.uniform(1, 1.5)  # noqa: S311 - jitter
            wait_s = pause_s if failure.wait_s is None else failure.wait_s
            gives_up = failure.is_offline and not self._patience.offline
            if attempt + 1 == attempts or gives_up or wait_s > _LONGEST_WAIT_S:
                break
            await anyio.sleep(wait_s)
        raise UnreachableError(f"{without_query(address)}: {failure.cause}")

    async def _attempt(self, address: str, request: Request) -> _Answer:
        try:
            with anyio.fail_after(self._patience.timeout_s):
                answer = await self._send(address, request)
        except TimeoutError:
            cause = f"no answer within {self._patience.timeout_s:g} s"
            raise _Failure(cause, is_offline=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _Failure(_cause(error), is_offline=True) from error
        except httpx.TransportError as error:
            raise _Failure(_cause(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RefusedError(f"{without_query(address)}: {_cause(error)}", 0) from error
        if answer.status in RETRIED:
            raise _Failure(f"{answer.status} {answer.reason}", wait_s=_retry_after_s(answer.headers))
        if answer.status != httpx.codes.OK:
            raise RefusedError(f"{without_query(address)}: {answer.status} {answer.reason}", answer.status)
        return answer

    async def _send(self, address: str, request: Request) -> _Answer:
        async with self._http.stream(
            request.method, address, headers=request.headers, content=request.content or None
        ) as response:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise httpx.DecodingError(f"the answer is longer than {_MOST_BYTES:,} bytes")
            return _Answer(response.status_code, response.reason_phrase, response.headers, bytes(body))


@asynccontextmanager
async def open_client(patience: Patience) -> AsyncIterator[Client]:
    """Open a client.

    Raises:
        RefusedError: The proxy or certificate settings of the environment do not work.
    """
    try:
        http = httpx.AsyncClient(
            timeout=httpx.Timeout(patience.timeout_s, connect=min(_CONNECT_TIMEOUT_S, patience.timeout_s)),
            follow_redirects=True,
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise RefusedError(f"the proxy or certificate settings of the environment do not work: {error}", 0) from error
    async with http:
        yield Client(http, patience)


def without_query(address: str) -> str:
    """Drop what may be secret: the query holds signatures, the user part passwords."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Return the seconds of `Retry-After`, which may also be a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _cause(error: Exception) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return f"{words}: {error}" if str(error) else words
