"""The requests that run, so that a service which stops can wait for them, refuse others and end the rest."""

import logging
from collections.abc import MutableMapping
from typing import Any

import anyio
from anyio import CancelScope

from cupola.contracts import Receive, Scope, Send
from cupola.frontend import ASGIApp
from cupola_server.health import HEALTH_PATHS, Health
from cupola_server.openai.errors import ServerStoppingError
from cupola_server.openai.exchange import send_error

logger = logging.getLogger(__name__)

_LINGER_S = 5.0


class RunningRequests:
    """An ASGI application around another one, which knows the requests that run and can end them.

    It is the last boundary for errors: whatever a front-end lets escape becomes a reply in OpenAI's shape.
    """

    def __init__(self, app: ASGIApp, health: Health) -> None:
        self._app = app
        self._health = health
        self._scopes: set[CancelScope] = set()
        self._none = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
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
                if not request.answered:
                    await send_error(request.send, error)
            finally:
                self._scopes.discard(running)
                self._none.set()
        if running.cancelled_caught and not request.answered:
            await send_error(send, ServerStoppingError())

    async def wait_until_none(self) -> None:
        """Wait until no request runs."""
        while self._scopes:
            self._none = anyio.Event()
            await self._none.wait()

    def cancel(self) -> None:
        """End all requests."""
        for running in self._scopes:
            running.cancel()


class _Request:
    """A request whose body need not be read.

    Hypercorn hands a body over through a short queue. An application that answers without reading it all would leave
    the queue full and wait forever for its own last message to pass; and a connection that is closed while the client
    still sends loses the answer. So the answer goes out first, then the rest of the body is read and dropped.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.answered = False
        self._receive, self._send = receive, send
        self._body_read = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._body_read = self._body_read or not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.answered = True
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._body_read or not last:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with anyio.move_on_after(_LINGER_S):
            while not self._body_read:
                await self.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drop)
            await self._send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    async def _drop(self) -> None:
        while True:
            await self._receive()
