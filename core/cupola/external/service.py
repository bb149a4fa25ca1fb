"""One service elsewhere: how it is reached, and what its refusals mean."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from cupola.downloads.connections import describe_error
from cupola.errors import (
    ExternalBusyError,
    ExternalServiceError,
    ExternalTimeoutError,
    InvalidParameterError,
    RequestError,
    SettingsError,
)
from cupola.settings import ExternalSettings

if TYPE_CHECKING:
    import httpx

_HEADERS = {"content-type": "application/json", "accept": "text/event-stream, application/json"}
_LONGEST_WORDS = 500
_MOST_WAIT_S = 3600


class _Said(Struct, frozen=True):
    message: str = ""
    param: str | None = None


class _Refusal(Struct, frozen=True):
    error: _Said | str = ""


class ExternalService:
    """Sends requests to one service.

    Args:
        name: What it is called here.
        settings: How it is reached.
        environ: Where a key may be.

    Raises:
        SettingsError: The key would travel in the clear.
    """

    def __init__(self, name: str, settings: ExternalSettings, environ: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self.settings = settings
        self._environ_key = environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        self._client: httpx.AsyncClient | None = None
        self._is_here = _is_loopback(settings.base_url)
        has_key = bool(settings.api_key_env or settings.api_key_file)
        if has_key and not self._is_here and not settings.base_url.startswith("https:"):
            problem = "a key would travel in the clear; use https"
            raise SettingsError(key=f"external.{name}.base_url", source="the settings", problem=problem)

    @asynccontextmanager
    async def post(self, path: str, body: object) -> "AsyncIterator[httpx.Response]":
        """Send a request. Entering waits for the head of a good reply; leaving early ends it at the service.

        Raises:
            RequestError: It refuses the request as it stands.
            ExternalServiceError: It cannot be reached, refuses our key, or fails, also while the reply is read.
        """
        request = self._http().build_request(
            "POST",
            self.settings.base_url.rstrip("/") + path,
            content=msgspec.json.encode(body),
            headers={**_HEADERS, **self._key()},
        )
        with self.explained():
            response = await self._http().send(request, stream=True)
        try:
            if response.status_code != 200:
                with self.explained():
                    words = await _beginning(response)
                raise self._refused(response, words)
            yield response
        finally:
            await response.aclose()

    def explained(self) -> "_Explained":
        """Open a block in which faults of the connection become errors that name the service."""
        return _Explained(self.name, self.settings.timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _http(self) -> "httpx.AsyncClient":
        if self._client is None:
            import httpx  # noqa: PLC0415 - takes a moment that only services elsewhere are worth

            settings = self.settings
            timeout = httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s, pool=None)
            # a proxy for the network has no business with services of this machine
            self._client = httpx.AsyncClient(timeout=timeout, trust_env=not self._is_here)
        return self._client

    def _key(self) -> dict[str, str]:
        key = self._read_key()
        return {"authorization": f"Bearer {key}"} if key else {}

    def _read_key(self) -> str:
        settings = self.settings
        if settings.api_key_file:
            try:
                return Path(settings.api_key_file).expanduser().read_text("utf-8").strip().splitlines()[0].strip()
            except (OSError, UnicodeDecodeError, IndexError):
                raise self._without_key(f"the key file {settings.api_key_file} cannot be read or is empty") from None
        if settings.api_key_env and not self._environ_key:
            raise self._without_key(f"the environment variable {settings.api_key_env}, which holds its key, is not set")
        return self._environ_key

    def _without_key(self, problem: str) -> ExternalServiceError:
        return ExternalServiceError(service=self.name, detail=f"{problem} (settings of external.{self.name})")

    def _refused(self, response: "httpx.Response", body: bytes) -> Exception:
        status, said = response.status_code, self._said(body)
        if status in (401, 403):  # what it says may quote the key
            hint = f"set external.{self.name}.api_key_env or api_key_file, or check the key"
            return ExternalServiceError(service=self.name, detail=f"it refuses our key (status {status}); {hint}.")
        if status == 429:
            text = response.headers.get("retry-after", "")
            wait_s = min(int(text), _MOST_WAIT_S) if text.isascii() and text.isdigit() else 1
            detail = f"it takes no more requests for now. {said.message}".rstrip()
            return ExternalBusyError(service=self.name, detail=detail, retry_after_s=max(1, wait_s))
        if status in (400, 413, 422):
            detail = f"The external service {self.name!r} refuses this: {said.message or f'status {status}'}"
            return InvalidParameterError(param=said.param, detail=detail) if said.param else RequestError(detail=detail)
        detail = f"status {status}{': ' if said.message else ''}{said.message}"
        return ExternalServiceError(service=self.name, detail=detail)

    def _said(self, body: bytes) -> _Said:
        """Return what it says about an error, in few words and without our key."""
        try:
            error = msgspec.json.decode(body, type=_Refusal).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = ""
        said = _Said(error) if isinstance(error, str) else error
        return _Said(self.without_secrets(said.message), said.param)

    def without_secrets(self, text: str) -> str:
        """Take our key out of a text of the service, and shorten it."""
        try:
            key = self._read_key()
        except ExternalServiceError:
            key = ""
        return (text.replace(key, "(key)") if key else text)[:_LONGEST_WORDS]


class _Explained:
    """Turns faults of a connection into errors that name the service."""

    def __init__(self, service: str, timeout_s: float) -> None:
        self._service, self._timeout_s = service, timeout_s

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        import httpx  # noqa: PLC0415 - see above

        if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
            raise ExternalServiceError(
                service=self._service, detail=f"no connection, {describe_error(error)}"
            ) from None
        if isinstance(error, httpx.TimeoutException):
            detail = f"it said nothing for {self._timeout_s:g} s"
            raise ExternalTimeoutError(service=self._service, detail=detail) from None
        if isinstance(error, httpx.HTTPError):
            raise ExternalServiceError(service=self._service, detail=f"broke off, {describe_error(error)}") from None


async def _beginning(response: "httpx.Response", limit_bytes: int = 65536) -> bytes:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) >= limit_bytes:
            break
    return body


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
