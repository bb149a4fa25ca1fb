"""The ASGI application around all front-ends, including those of third parties, that checks every request."""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

import anyio

from cupola.contracts import Receive, Scope, Send
from cupola.errors import RequestError
from cupola.frontend import ASGIApp
from cupola_server.health import HEALTH_PATHS
from cupola_server.openai.errors import BodyTimeoutError, BodyTooLargeError, Headers
from cupola_server.openai.exchange import send_error
from cupola_server.security.hosts import Hosts
from cupola_server.security.keys import ApiKeys
from cupola_server.security.origins import Origins, is_preflight, preflight_headers

logger = logging.getLogger(__name__)

_MIN_BYTES_PER_S = 10_000


class Guard:
    """Checks the Host header, the origin, the API key and the body, in this order.

    The health endpoints need no key, but the origin is checked there too.

    Args:
        app: The application to guard.
        hosts: The allowed host names. They are not checked on Unix domain sockets.
        origins: The web pages that may use the service.
        keys: The API keys, one of which a request needs.
        private: Whether only this user can access the Unix domain sockets, so that requests over them need no key.
        limit_bytes: The maximum size of a body.
        timeout_s: See `BoundedBody`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        origins: Origins,
        keys: ApiKeys,
        limit_bytes: int,
        timeout_s: float,
        private: bool = False,
    ) -> None:
        self._app = app
        self._hosts, self._origins, self._keys, self._private = hosts, origins, keys, private
        self._limit_bytes, self._timeout_s = limit_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            if not _is_over_unix_socket(scope):
                self._hosts.check(headers)
            cors_headers = self._origins.admit(headers)
        except RequestError as error:
            await _refuse(scope, send, error)
            return
        if cors_headers:
            send = _CorsResponse(send, cors_headers).send
            if is_preflight(scope.get("method", ""), headers):
                await _allow(send, preflight_headers(headers))
                return
        await self._check_key_and_body(scope, headers, receive, send)

    async def _check_key_and_body(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Check the key and the body. The requesting page may read these errors."""
        try:
            if scope["path"] not in HEALTH_PATHS and not (self._private and _is_over_unix_socket(scope)):
                self._keys.check(headers)
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length[:20]) > self._limit_bytes:
                raise BodyTooLargeError(limit_bytes=self._limit_bytes)
        except RequestError as error:
            await _refuse(scope, send, error)
            return
        if scope["type"] == "http" and _may_have_body(scope, headers):
            body = BoundedBody(receive, send, limit_bytes=self._limit_bytes, timeout_s=self._timeout_s)
            receive, send = body.receive, body.send
        await self._app(scope, receive, send)


class _CorsResponse:
    """Adds the headers that let the requesting page read the response."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send, self._headers = send, headers

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)


class BoundedBody:
    """Limits the size and the time of a body. On excess, sends an error; the application sees a disconnect.

    Args:
        limit_bytes: The maximum size.
        timeout_s: The time limit, plus the time that the received bytes take at 10 kB/s, against slow senders.
    """

    def __init__(self, receive: Receive, send: Send, *, limit_bytes: int, timeout_s: float) -> None:
        self._receive, self._send = receive, send
        self._limit_bytes = limit_bytes
        self._deadline = anyio.current_time() + timeout_s
        self._received = 0
        self._is_complete = self._has_response = self._refused = False

    async def receive(self) -> MutableMapping[str, Any]:
        """Receive a message for the application."""
        if self._is_complete:
            return await self._receive()
        if self._refused:
            return {"type": "http.disconnect"}
        with anyio.CancelScope(deadline=self._deadline + self._received / _MIN_BYTES_PER_S) as waiting:
            message = await self._receive()
        if waiting.cancelled_caught:
            return await self._refuse(BodyTimeoutError())
        if message["type"] != "http.request":
            return message
        self._received += len(message.get("body", b""))
        if self._received > self._limit_bytes:
            return await self._refuse(BodyTooLargeError(limit_bytes=self._limit_bytes))
        self._is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of the application, unless an error was sent."""
        if not self._refused:
            self._has_response = True
            await self._send(message)

    async def _refuse(self, error: Exception) -> MutableMapping[str, Any]:
        self._refused = True
        if not self._has_response:
            await send_error(self._send, error)
        return {"type": "http.disconnect"}


def _is_over_unix_socket(scope: Scope) -> bool:
    """Whether a request came over a Unix domain socket, which has no address."""
    return scope.get("server") is None


def _may_have_body(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    is_announced = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    return is_announced or scope["http_version"] not in ("1.0", "1.1")  # HTTP/2 does not announce bodies


async def _refuse(scope: Scope, send: Send, error: RequestError) -> None:
    logger.info("Refused a request: %s", type(error).__name__)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
    else:
        await send_error(send, error)


async def _allow(send: Send, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})
