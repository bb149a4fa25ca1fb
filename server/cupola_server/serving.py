"""Runs an ASGI application on hypercorn, and stops it in order."""

import logging
import socket
from collections.abc import Callable, MutableMapping
from typing import Any, cast

import anyio
from anyio import CancelScope
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets

from cupola import ASGIApp
from cupola.contracts import Receive, Scope, Send
from cupola.settings import ServerSettings
from cupola_server.listening import BACKLOG, listen, url
from cupola_server.openai.errors import ServerStoppingError
from cupola_server.openai.exchange import send_error

_KEEP_ALIVE_S = 75.0  # longer than common clients keep connections, so that they never send into a closing one
_LINGER_S = 5.0
_LAST_RESORT_S = 3.0


async def serve(app: ASGIApp, settings: ServerSettings, *, ready: Callable[[str], object], stop: anyio.Event) -> None:
    """Serve until `stop` is set, then stop in order. Needs asyncio as the event loop.

    Stopping accepts no connection any more, gives running requests `settings.drain_timeout_s` to end and cancels
    those that did not. Cancelling this function does the same without the wait.

    Args:
        app: What to serve.
        settings: Where to listen.
        ready: Called once with the base URL, as soon as requests are answered.
        stop: Set it to stop.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines.
        PortInUseError, ListenError: The address cannot be had.
    """
    sockets = await listen(settings.host, settings.port)
    config = _Config(sockets, graceful_timeout_s=settings.drain_timeout_s + _LAST_RESORT_S / 2)
    requests = _RunningRequests(app)
    closing = anyio.Event()

    async def shutdown_trigger() -> None:
        ready(url(settings.host, sockets[0]))  # hypercorn waits for its trigger as soon as it accepts connections
        await closing.wait()

    try:
        async with anyio.create_task_group() as tasks:
            with CancelScope(shield=True) as hypercorn:
                tasks.start_soon(_stop_in_order, stop, closing, requests, hypercorn, settings.drain_timeout_s)
                await hypercorn_serve(cast("Any", requests), config, shutdown_trigger=shutdown_trigger, mode="asgi")
            tasks.cancel_scope.cancel()
    finally:
        for listener in sockets:
            listener.close()


async def _stop_in_order(
    stop: anyio.Event,
    closing: anyio.Event,
    requests: "_RunningRequests",
    hypercorn: CancelScope,
    drain_timeout_s: float,
) -> None:
    try:
        await stop.wait()
        closing.set()
        with anyio.move_on_after(drain_timeout_s):
            await requests.wait_until_none()
    finally:
        closing.set()
        requests.cancel()
        # From Python 3.12 on hypercorn waits without limit for connections, also for clients that never read.
        hypercorn.deadline = anyio.current_time() + _LAST_RESORT_S


class _RunningRequests:
    """An ASGI application around another one, which knows the requests that run and can end them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scopes: set[CancelScope] = set()
        self._cancelled = False
        self._none = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(receive, send)
        with CancelScope() as running:
            if self._cancelled:
                running.cancel()
            self._scopes.add(running)
            try:
                await self._app(scope, request.receive, request.send)
            finally:
                self._scopes.discard(running)
                self._none.set()
        if running.cancelled_caught and not request.answered:
            await send_error(send, ServerStoppingError())

    async def wait_until_none(self) -> None:
        while self._scopes:
            self._none = anyio.Event()
            await self._none.wait()

    def cancel(self) -> None:
        """End all requests, and every later one at once."""
        self._cancelled = True
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


class _Config(Config):
    """Hypercorn's configuration, with sockets that are bound already."""

    keep_alive_timeout = _KEEP_ALIVE_S
    backlog = BACKLOG
    include_server_header = False
    errorlog = logging.getLogger("hypercorn.error")

    def __init__(self, sockets: list[socket.socket], *, graceful_timeout_s: float) -> None:
        self._sockets = sockets
        self.graceful_timeout = graceful_timeout_s

    def create_sockets(self) -> Sockets:
        return Sockets(secure_sockets=[], insecure_sockets=self._sockets, quic_sockets=[])
