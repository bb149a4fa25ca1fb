"""ASGI middleware around all front-ends: request ids, request events, and the requests in progress."""

import logging
import re
import time
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import anyio
from anyio import CancelScope

from cupola.contracts import Event, Receive, Scope, Send
from cupola.events import RequestEnded, RequestStarted
from cupola.frontend import ASGIApp
from cupola_server.health import HEALTH_PATHS, Health
from cupola_server.openai.errors import ServerStoppingError
from cupola_server.openai.exchange import ROUTE, send_error

logger = logging.getLogger(__name__)
_DISCARD_TIMEOUT_S = 5.0
Observe = Callable[[Event], None]
_CLIENT_DISCONNECTED = 499
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HEADER = b"x-request-id"
_VALID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")  # no characters that could forge a log line
_NO_REQUEST = "-"
_current: ContextVar[str] = ContextVar("request_id", default=_NO_REQUEST)
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s"
"""The format that `label_logs` sets."""


class RunningRequests:
    """Tracks the requests in progress, so that a stopping service can wait for them, refuse new ones and cancel them.

    It also catches all exceptions of front-ends and sends them in OpenAI's format.
    """

    def __init__(self, app: ASGIApp, health: Health) -> None:
        self._app = app
        self._health = health
        self._scopes: set[CancelScope] = set()
        self._idle = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(receive, send)
        if self._health.stopping and scope["path"] not in HEALTH_PATHS:
            await send_error(request.send, ServerStoppingError())
            return
        with CancelScope() as running:
            self._scopes.add(running)
            try:
                await self._app(scope, request.receive, request.send)
            except Exception as error:
                logger.exception("A front-end failed")
                if not request.has_response:
                    await send_error(request.send, error)
            finally:
                self._scopes.discard(running)
                self._idle.set()
        if running.cancelled_caught and not request.has_response:
            await send_error(send, ServerStoppingError())

    async def wait_until_idle(self) -> None:
        """Wait until no request is in progress."""
        while self._scopes:
            self._idle = anyio.Event()
            await self._idle.wait()

    def cancel(self) -> None:
        """Cancel all requests."""
        for running in self._scopes:
            running.cancel()


class RequestEvents:
    """Reports requests to observers and the log. Never includes a path, a query or a body."""

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), _CLIENT_DISCONNECTED

        async def send_and_note(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._observe(RequestStarted(method))
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            ended = RequestEnded(method, scope.get(ROUTE, "none"), status, time.monotonic() - started)
            self._observe(ended)
            logger.info("%s %s: %d after %.3f s", method, ended.route, status, ended.total_s)


class RequestIds:
    """Takes the client's `X-Request-ID` or creates one, and returns it with the response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with its id, which all tasks that it starts inherit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        request_id = received if _VALID.fullmatch(received) else f"req_{uuid4().hex}".encode()

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (_HEADER, request_id)]}
            await send(message)

        token = _current.set(request_id.decode())
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current.reset(token)


def request_id() -> str:
    """Return the id of the current task's request; "-" outside of requests."""
    return _current.get()


class RequestIdFilter(logging.Filter):
    """Adds the `request_id` to every log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id to a record."""
        record.request_id = _current.get()
        return True


def label_logs() -> None:
    """Make the handlers of the root logger include request ids."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(RequestIdFilter())
        handler.setFormatter(logging.Formatter(LOG_FORMAT))


class _Request:
    """A request whose body the application need not read.

    Hypercorn passes a body on through a short queue. An application that responds without reading all of it would
    leave the queue full and wait forever to send its own last message. Closing a connection while the client is still
    sending would lose the response. Therefore the response is sent first, then the rest of the body is discarded.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.has_response = False
        self._receive, self._send = receive, send
        self._body_read = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._body_read = self._body_read or not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.has_response = True
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._body_read or not last:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with anyio.move_on_after(_DISCARD_TIMEOUT_S):
            while not self._body_read:
                await self.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discard)
            await self._send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    async def _discard(self) -> None:
        while True:
            await self._receive()
