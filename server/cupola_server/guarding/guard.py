"""The ASGI application around all front-ends, also those of third parties: nothing reaches them unchecked."""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from cupola.contracts import Receive, Scope, Send
from cupola.errors import RequestError
from cupola.frontend import ASGIApp
from cupola_server.guarding.bodies import BoundedBody
from cupola_server.guarding.hosts import Hosts
from cupola_server.guarding.keys import ApiKeys
from cupola_server.guarding.origins import Origins, is_preflight, preflight_headers
from cupola_server.health import HEALTH_PATHS
from cupola_server.openai.errors import BodyTooLargeError, Headers
from cupola_server.openai.exchange import send_error

logger = logging.getLogger(__name__)


class Guard:
    """Checks, in this order: the name the service is called by, the page behind the request, the key, the body.

    Health is told without a key; a request of another origin is refused even there.

    Args:
        app: What to guard.
        hosts: The names it may be called by. On a Unix domain socket no name can mislead.
        origins: The web pages that may use it.
        keys: The keys of which a request needs one.
        private: Whether only this user can open the Unix domain sockets, so that requests there need no key.
        limit_bytes: The longest body.
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
        """Answer a request, or let the application answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            if not _is_over_a_file(scope):
                self._hosts.check(headers)
            readable = self._origins.admit(headers)
        except RequestError as error:
            await _refuse(scope, send, error)
            return
        if readable:
            send = _ReadableReply(send, readable).send
            if is_preflight(scope.get("method", ""), headers):
                await _allow(send, preflight_headers(headers))
                return
        await self._checked(scope, headers, receive, send)

    async def _checked(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        """Check what a page may be told about: its key and its body."""
        try:
            if scope["path"] not in HEALTH_PATHS and not (self._private and _is_over_a_file(scope)):
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


class _ReadableReply:
    """A reply that the page which asked may read."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send, self._headers = send, headers

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)


def _is_over_a_file(scope: Scope) -> bool:
    """Whether a request came over a Unix domain socket, which has no address."""
    return scope.get("server") is None


def _may_have_body(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    announced = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    return announced or scope["http_version"] not in ("1.0", "1.1")  # HTTP/2 announces nothing


async def _refuse(scope: Scope, send: Send, error: RequestError) -> None:
    logger.info("Refused a request: %s", type(error).__name__)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
    else:
        await send_error(send, error)


async def _allow(send: Send, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})
