"""An HTTP client for the Azure services: retries where waiting helps, and never shows signed URLs."""

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
_MAX_BYTES = 64 << 20
_CONNECT_TIMEOUT_S = 8.0
_MAX_WAIT_S = 30.0


class UnreachableError(Exception):
    """No address gave a usable response. The request may succeed later or in another region."""


class RefusedError(Exception):
    """The service refused the request, and a retry does not help. `status` is the HTTP status, 0 if there is none."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of attempts and waiting times.

    Attributes:
        attempts: The maximum number of requests to one address.
        first_pause_s: The wait before the second attempt. It doubles each time, plus up to 50 % jitter.
        timeout_s: The time limit of one attempt.
        offline: Whether to retry when no connection can be made. Without a network, a remembered listing should be
            used at once.
    """

    attempts: int = 4
    first_pause_s: float = 0.5
    timeout_s: float = 15.0
    offline: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request that any of several equivalent addresses can response."""

    method: str
    addresses: Sequence[str]
    headers: Mapping[str, str]
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    reason: str
    headers: httpx.Headers
    body: bytes


@dataclass(slots=True)
class _Failure(Exception):  # noqa: N818 - internal: carries the wait to the retry loop
    """A failed attempt that can be retried."""

    cause: str
    wait_s: float | None = None
    is_offline: bool = False


class Client:
    """Sends requests with retries.

    Proxies and certificates come from the usual environment variables (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE).
    """

    def __init__(self, http: httpx.AsyncClient, retry_policy: RetryPolicy) -> None:
        self._http = http
        self._retry_policy = retry_policy

    async def send(self, request: Request, read: Callable[[bytes, httpx.Headers], T]) -> T:
        """Return the result of `read` for the first usable response.

        Retries, and then tries the next address, on status 408, 429 and 5xx, on broken connections, and when `read`
        raises ValueError. Respects `Retry-After` (RFC 9110, 10.2.3).

        Raises:
            UnreachableError: No address gave a usable response.
            RefusedError: An address responded with any other status.
        """
        causes = []
        for address in request.addresses:
            try:
                return await self._send_with_retries(address, request, read)
            except UnreachableError as error:
                causes.append(str(error))
                logger.info("%s", error)
        raise unreachable(causes)

    async def _send_with_retries(self, address: str, request: Request, read: Callable[[bytes, httpx.Headers], T]) -> T:
        attempts = self._retry_policy.attempts if len(request.addresses) == 1 else min(2, self._retry_policy.attempts)
        for attempt in range(attempts):
            try:
                response = await self._attempt(address, request)
                return read(response.body, response.headers)
            except ValueError as error:
                failure = _Failure(f"the response is damaged: {error}")
            except _Failure as error:
                failure = error
            pause_s = self._retry_policy.first_pause_s * 2**attempt * random.uniform(1, 1.5)  # noqa: S311 - jitter
            wait_s = pause_s if failure.wait_s is None else failure.wait_s
            gives_up = failure.is_offline and not self._retry_policy.offline
            if attempt + 1 == attempts or gives_up or wait_s > _MAX_WAIT_S:
                break
            await anyio.sleep(wait_s)
        raise UnreachableError(f"{without_query(address)}: {failure.cause}")

    async def _attempt(self, address: str, request: Request) -> _Response:
        try:
            with anyio.fail_after(self._retry_policy.timeout_s):
                response = await self._stream(address, request)
        except TimeoutError:
            cause = f"no response within {self._retry_policy.timeout_s:g} s"
            raise _Failure(cause, is_offline=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _Failure(_cause(error), is_offline=True) from error
        except httpx.TransportError as error:
            raise _Failure(_cause(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RefusedError(f"{without_query(address)}: {_cause(error)}", 0) from error
        if response.status in RETRIED:
            raise _Failure(f"{response.status} {response.reason}", wait_s=_retry_after_s(response.headers))
        if response.status != httpx.codes.OK:
            raise RefusedError(f"{without_query(address)}: {response.status} {response.reason}", response.status)
        return response

    async def _stream(self, address: str, request: Request) -> _Response:
        async with self._http.stream(
            request.method, address, headers=request.headers, content=request.content or None
        ) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise httpx.DecodingError(f"the response is longer than {_MAX_BYTES:,} bytes")
            return _Response(response.status_code, response.reason_phrase, response.headers, bytes(body))


@asynccontextmanager
async def open_client(retry_policy: RetryPolicy) -> AsyncIterator[Client]:
    """Open a client.

    Raises:
        RefusedError: The proxy or certificate settings of the environment do not work.
    """
    try:
        http = httpx.AsyncClient(
            timeout=httpx.Timeout(retry_policy.timeout_s, connect=min(_CONNECT_TIMEOUT_S, retry_policy.timeout_s)),
            follow_redirects=True,
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise RefusedError(f"the proxy or certificate settings of the environment do not work: {error}", 0) from error
    async with http:
        yield Client(http, retry_policy)


def unreachable(causes: Sequence[str]) -> UnreachableError:
    """Return the error for addresses that all failed, with the first cause."""
    more = f" ({len(causes) - 1} other regions failed as well)" if len(causes) > 1 else ""
    return UnreachableError(causes[0] + more)


def without_query(address: str) -> str:
    """Remove the parts of a URL that may be secret: the query with its signature, and the user with the password."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "an invalid address"
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
