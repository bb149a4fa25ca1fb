"""Serves an ASGI application with hypercorn, guarded, and shuts it down gracefully."""

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
from cupola_server.health import Health
from cupola_server.listeners import BACKLOG, base_url, is_own_file, is_public, open_listeners
from cupola_server.middleware import Observe, RequestEvents, RequestIds, RunningRequests
from cupola_server.security import ApiKeys, Guard, Hosts, Origins, read_keys
from cupola_server.unix_socket import SocketFile, bind_unix_socket

_CLOSE_TIMEOUT_S = 3.0
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
    """Serve until `stop` is set, then shut down gracefully. Requires asyncio as the event loop.

    The application is guarded: it receives only requests with an allowed Host header, from no foreign web page, with an
    API key if any are set, and with a body within the limits.

    Shutting down refuses new requests, gives running ones `settings.drain_timeout_s` to finish and cancels the rest.
    Cancelling this function does the same without waiting.

    Args:
        app: The application.
        settings: The addresses to listen on, access and limits.
        ready: Called once with the base URL, as soon as requests are accepted.
        stop: Set it to shut down.
        health: Records that the service is stopping.
        observe: Receives the events of all requests.
        private: An additional Unix domain socket to listen on, in a folder that only this user can access. Requests
            over it need no API key.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines without keys, or a setting is invalid.
        PortInUseError, ListenError, SocketFileError: The address cannot be used.
    """
    health = health or Health()
    keys = await read_keys(settings)
    origins = Origins(settings.cors_origins, keyed=bool(keys))
    listeners = await open_listeners(settings, keyed=bool(keys))
    files = [SocketFile(listeners[0])] if is_own_file(settings, listeners[0]) else []
    if private:
        listeners.append(_bind_private(private, listeners))
        files.append(SocketFile(listeners[-1]))
    guard = _guard(app, settings, listeners, origins, keys, private=bool(private))
    requests = RunningRequests(guard, health)
    application = RequestIds(RequestEvents(requests, observe or _ignore))
    closing = anyio.Event()

    async def shutdown_trigger() -> None:
        ready(base_url(settings.host, listeners[0]))  # hypercorn waits for its trigger once it accepts connections
        await closing.wait()

    try:
        async with anyio.create_task_group() as tasks:
            with CancelScope(shield=True) as hypercorn:
                shutdown = _Shutdown(health, requests, closing, hypercorn)
                tasks.start_soon(shutdown.run, stop, settings.drain_timeout_s)
                config = _Config(listeners, settings)
                await hypercorn_serve(cast("Any", application), config, shutdown_trigger=shutdown_trigger, mode="asgi")
            tasks.cancel_scope.cancel()
    finally:
        for file in files:
            file.remove()
        for listener in listeners:
            listener.close()


def _bind_private(path: Path, listeners: list[socket.socket]) -> socket.socket:
    try:
        return bind_unix_socket(str(path), BACKLOG)
    except CupolaError:
        for listener in listeners:
            listener.close()
        raise


def _guard(
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


class _Shutdown:
    """Shuts a service down: running requests finish, then connections close, and the rest is cancelled."""

    def __init__(self, health: Health, requests: RunningRequests, closing: anyio.Event, hypercorn: CancelScope) -> None:
        self._health, self._requests = health, requests
        self._closing, self._hypercorn = closing, hypercorn

    async def run(self, stop: anyio.Event, drain_timeout_s: float) -> None:
        try:
            await stop.wait()
            self._health.stopping = True
            with anyio.move_on_after(drain_timeout_s):
                await self._requests.wait_until_idle()
        finally:
            self._health.stopping = True
            self._closing.set()
            self._requests.cancel()
            # From Python 3.12 on, hypercorn waits for connections without a limit, even for clients that never read.
            self._hypercorn.deadline = anyio.current_time() + _CLOSE_TIMEOUT_S


class _Config(Config):
    """Hypercorn's configuration, with existing sockets."""

    backlog = BACKLOG
    include_server_header = False
    h11_max_incomplete_size = _HEADERS_LIMIT_BYTES
    graceful_timeout = _CLOSE_TIMEOUT_S / 2
    errorlog = logging.getLogger("hypercorn.error")

    def __init__(self, listeners: list[socket.socket], settings: ServerSettings) -> None:
        self._listeners = listeners
        self.keep_alive_timeout = settings.idle_timeout_s

    def create_sockets(self) -> Sockets:
        return Sockets(secure_sockets=[], insecure_sockets=self._listeners, quic_sockets=[])


def _ignore(event: Event) -> None:
    """Discard events."""
