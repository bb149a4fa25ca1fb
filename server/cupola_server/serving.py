"""Runs an ASGI application on hypercorn, guarded, and stops it in order."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
from anyio import CancelScope
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets

from cupola.contracts import Event
from cupola.errors import CupolaError
from cupola.frontend import ASGIApp
from cupola.settings import ServerSettings
from cupola_server.guarding import ApiKeys, Guard, Hosts, Origins, read_keys
from cupola_server.health import Health
from cupola_server.listening import BACKLOG, is_own_file, is_public, open_listeners, url
from cupola_server.request_ids import RequestIds
from cupola_server.running import RunningRequests
from cupola_server.unix_socket import SocketFile, bind_unix_socket
from cupola_server.watching import Observe, Watched

_LAST_RESORT_S = 3.0
_HEADERS_LIMIT_BYTES = 32 * 1024


async def serve(
    app: ASGIApp,
    settings: ServerSettings,
    *,
    ready: Callable[[str], object],
    stop: anyio.Event,
    health: Health | None = None,
    observe: Observe | None = None,
    private: Path | None = None,
) -> None:
    """Serve until `stop` is set, then stop in order. Needs asyncio as the event loop.

    The application is guarded: it sees only requests that call the service by its name, come from no foreign web page,
    bring an API key if there are any, and whose bodies keep to the limits.

    Stopping refuses new requests, gives running ones `settings.drain_timeout_s` to end and cancels those that did not.
    Cancelling this function does the same without the wait.

    Args:
        app: What to serve.
        settings: Where to listen, and whom to answer.
        ready: Called once with the base URL, as soon as requests are answered.
        stop: Set it to stop.
        health: Where to note that the service is stopping.
        observe: Told of every request.
        private: A Unix domain socket to listen on as well, in a folder that is open to this user alone; requests over
            it need no API key.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines without API keys, or a setting is wrong.
        PortInUseError, ListenError, SocketFileError: The address cannot be had.
    """
    health = health or Health()
    keys = await read_keys(settings)
    origins = Origins(settings.cors_origins, keyed=bool(keys))
    listeners = await open_listeners(settings, keyed=bool(keys))
    files = [SocketFile(listeners[0])] if is_own_file(settings, listeners[0]) else []
    if private:
        listeners.append(_bound_or_none_left_open(private, listeners))
        files.append(SocketFile(listeners[-1]))
    guard = _guarded(app, settings, listeners, origins, keys, private=bool(private))
    requests = RunningRequests(guard, health)
    whole = RequestIds(Watched(requests, observe or _ignore))
    closing = anyio.Event()

    async def shutdown_trigger() -> None:
        ready(url(settings.host, listeners[0]))  # hypercorn waits for its trigger as soon as it accepts connections
        await closing.wait()

    try:
        async with anyio.create_task_group() as tasks:
            with CancelScope(shield=True) as hypercorn:
                stopping = _Stopping(health, requests, closing, hypercorn)
                tasks.start_soon(stopping.run, stop, settings.drain_timeout_s)
                config = _Config(listeners, settings)
                await hypercorn_serve(cast("Any", whole), config, shutdown_trigger=shutdown_trigger, mode="asgi")
            tasks.cancel_scope.cancel()
    finally:
        for file in files:
            file.remove()
        for listener in listeners:
            listener.close()


def _bound_or_none_left_open(path: Path, listeners: list[socket.socket]) -> socket.socket:
    try:
        return bind_unix_socket(str(path), BACKLOG)
    except CupolaError:
        for listener in listeners:
            listener.close()
        raise


def _guarded(
    app: ASGIApp,
    settings: ServerSettings,
    listeners: list[socket.socket],
    origins: Origins,
    keys: ApiKeys,
    *,
    private: bool,
) -> Guard:
    public = any(map(is_public, listeners))
    return Guard(
        app,
        hosts=Hosts((settings.host, *settings.allowed_hosts), addresses=public),
        origins=origins,
        keys=keys,
        limit_bytes=settings.max_body_mb * 1024 * 1024,
        timeout_s=settings.body_timeout_s,
        private=private,
    )


class _Stopping:
    """How a service ends: what runs may end, then connections close, and what still holds on is cut off."""

    def __init__(self, health: Health, requests: RunningRequests, closing: anyio.Event, hypercorn: CancelScope) -> None:
        self._health, self._requests = health, requests
        self._closing, self._hypercorn = closing, hypercorn

    async def run(self, stop: anyio.Event, drain_timeout_s: float) -> None:
        try:
            await stop.wait()
            self._health.stopping = True
            with anyio.move_on_after(drain_timeout_s):
                await self._requests.wait_until_none()
        finally:
            self._health.stopping = True
            self._closing.set()
            self._requests.cancel()
            # From Python 3.12 on hypercorn waits without limit for connections, also for clients that never read.
            self._hypercorn.deadline = anyio.current_time() + _LAST_RESORT_S


class _Config(Config):
    """Hypercorn's configuration, with sockets that are bound already."""

    backlog = BACKLOG
    include_server_header = False
    h11_max_incomplete_size = _HEADERS_LIMIT_BYTES
    graceful_timeout = _LAST_RESORT_S / 2
    errorlog = logging.getLogger("hypercorn.error")

    def __init__(self, listeners: list[socket.socket], settings: ServerSettings) -> None:
        self._listeners = listeners
        self.keep_alive_timeout = settings.idle_timeout_s

    def create_sockets(self) -> Sockets:
        return Sockets(secure_sockets=[], insecure_sockets=self._listeners, quic_sockets=[])


def _ignore(event: Event) -> None:
    """Take no interest in requests."""
