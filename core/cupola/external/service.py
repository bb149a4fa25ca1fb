"""The HTTP client of one external service, and the conversion of its errors."""

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
_MAX_MESSAGE_LENGTH = 500
_MAX_RETRY_AFTER_S = 3600


class _ErrorObject(Struct, frozen=True):
    message: str = ""
    param: str | None = None


class _ErrorBody(Struct, frozen=True):
    error: _ErrorObject | str = ""


class ExternalService:
    """Sends requests to one external service.

    Args:
        name: The name of the service in the settings.
        settings: Its URL, key and time limits.
        environ: The environment variables, which may contain the key.

    Raises:
        SettingsError: The key would be sent unencrypted.
    """

    def __init__(self, name: str, settings: ExternalSettings, environ: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self.settings = settings
        self._environ_key = environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        self._client: httpx.AsyncClient | None = None
        self._is_local = _is_loopback(settings.base_url)
        has_key = bool(settings.api_key_env or settings.api_key_file)
        if has_key and not self._is_local and not settings.base_url.startswith("https:"):
            problem = "the key would be sent unencrypted; use https"
            raise SettingsError(key=f"external.{name}.base_url", source="the settings", problem=problem)

    @asynccontextmanager
    async def post(self, path: str, body: object) -> "AsyncIterator[httpx.Response]":
        """Send a request. Entering waits for the head of a successful response; leaving early cancels the request.

        Raises:
            RequestError: The service rejects the request.
            ExternalServiceError: The service cannot be reached, rejects the key, or fails, also during the response.
        """
        request = self._http().build_request(
            "POST",
            self.settings.base_url.rstrip("/") + path,
            content=msgspec.json.encode(body),
            headers={**_HEADERS, **self._key()},
        )
        with self.converted_errors():
            response = await self._http().send(request, stream=True)
        try:
            if response.status_code != 200:
                with self.converted_errors():
                    content = await _read_start(response)
                raise self._response_error(response, content)
            yield response
        finally:
            await response.aclose()

    def converted_errors(self) -> "_ConvertedErrors":
        """Return a context that converts connection errors to errors that name the service."""
        return _ConvertedErrors(self.name, self.settings.timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _http(self) -> "httpx.AsyncClient":
        if self._client is None:
            import httpx  # noqa: PLC0415 - slow to import, and needed for external services only

            settings = self.settings
            timeout = httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s, pool=None)
            # requests to this machine must not go through a proxy
            self._client = httpx.AsyncClient(timeout=timeout, trust_env=not self._is_local)
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
                raise self._key_error(f"the key file {settings.api_key_file} cannot be read or is empty") from None
        if settings.api_key_env and not self._environ_key:
            raise self._key_error(
                f"the environment variable {settings.api_key_env}, which should hold its key, is not set"
            )
        return self._environ_key

    def _key_error(self, problem: str) -> ExternalServiceError:
        return ExternalServiceError(service=self.name, detail=f"{problem} (settings of external.{self.name})")

    def _response_error(self, response: "httpx.Response", body: bytes) -> Exception:
        status, problem = response.status_code, self._error_object(body)
        if status in (401, 403):  # its message may quote the key
            hint = f"set external.{self.name}.api_key_env or api_key_file, or check the key"
            return ExternalServiceError(service=self.name, detail=f"it rejected the key (status {status}); {hint}.")
        if status == 429:
            text = response.headers.get("retry-after", "")
            wait_s = min(int(text), _MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 1
            detail = f"it accepts no more requests for now. {problem.message}".rstrip()
            return ExternalBusyError(service=self.name, detail=detail, retry_after_s=max(1, wait_s))
        if status in (400, 413, 422):
            detail = f"The external service {self.name!r} rejected the request: {problem.message or f'status {status}'}"
            return (
                InvalidParameterError(param=problem.param, detail=detail)
                if problem.param
                else RequestError(detail=detail)
            )
        detail = f"status {status}{': ' if problem.message else ''}{problem.message}"
        return ExternalServiceError(service=self.name, detail=detail)

    def _error_object(self, body: bytes) -> _ErrorObject:
        """Return the error of a response, shortened and without the key."""
        try:
            error = msgspec.json.decode(body, type=_ErrorBody).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = ""
        problem = _ErrorObject(error) if isinstance(error, str) else error
        return _ErrorObject(self.redact(problem.message), problem.param)

    def redact(self, text: str) -> str:
        """Remove the key from a message of the service, and shorten the message."""
        try:
            key = self._read_key()
        except ExternalServiceError:
            key = ""
        return (text.replace(key, "(key)") if key else text)[:_MAX_MESSAGE_LENGTH]


class _ConvertedErrors:
    """Converts connection errors to errors that name the service."""

    def __init__(self, service: str, timeout_s: float) -> None:
        self._service, self._timeout_s = service, timeout_s

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        import httpx  # noqa: PLC0415 - as above

        if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
            raise ExternalServiceError(
                service=self._service, detail=f"no connection, {describe_error(error)}"
            ) from None
        if isinstance(error, httpx.TimeoutException):
            detail = f"it sent nothing for {self._timeout_s:g} s"
            raise ExternalTimeoutError(service=self._service, detail=detail) from None
        if isinstance(error, httpx.HTTPError):
            raise ExternalServiceError(
                service=self._service, detail=f"the connection failed, {describe_error(error)}"
            ) from None


async def _read_start(response: "httpx.Response", limit_bytes: int = 65536) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= limit_bytes:
            break
    return body


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
