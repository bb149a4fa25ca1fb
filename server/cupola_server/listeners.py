"""The listening sockets of the service: loopback, a Unix domain socket, sockets from systemd, or, with keys, others.

ListenError               the service cannot listen on the address
└── PortInUseError        another program listens on the port
"""

import errno
import os
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import anyio

from cupola.errors import CupolaError, SettingsError
from cupola.settings import ServerSettings
from cupola_server.unix_socket import absolute_path, bind_unix_socket

BACKLOG = 1024
_FIRST_FD = 3
_MAX_SOCKETS = 64

_UNAVAILABLE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_UNIX = getattr(socket, "AF_UNIX", None)


@dataclass(eq=False, kw_only=True)
class ListenError(CupolaError):
    """The service cannot listen on the address."""

    host: str
    port: int
    detail: str = ""

    def __str__(self) -> str:
        return f"Cannot listen on {self.host}, port {self.port}: {self.detail}. Change server.host or server.port."


@dataclass(eq=False, kw_only=True)
class PortInUseError(ListenError):
    """Another program listens on the port, possibly another Cupola."""

    def __str__(self) -> str:
        return (
            f"Port {self.port} of {self.host} is in use, possibly by another Cupola. Stop that program, or choose "
            f"another port with server.port; 0 picks a free one."
        )


async def open_listeners(
    settings: ServerSettings, *, keyed: bool, environ: Mapping[str, str] = os.environ
) -> list[socket.socket]:
    """Return the listening sockets: those from systemd, else the Unix domain socket, else those of the address.

    Args:
        settings: The addresses to listen on.
        keyed: Whether requests need an API key. Otherwise only local addresses are allowed.
        environ: The environment, where systemd announces its sockets (sd_listen_fds(3)).

    Raises:
        SettingsError: The host is unknown, or reachable from other machines without keys.
        PortInUseError, ListenError, SocketFileError: The address cannot be used.
    """
    if sockets := activated_sockets(environ):
        for listener in sockets:
            if not keyed and is_public(listener):
                raise _needs_keys(f"the socket {listener.getsockname()} from systemd")
        return sockets
    if settings.uds:
        return [bind_unix_socket(settings.uds, BACKLOG)]
    return await listen(settings.host, settings.port, keyed=keyed)


async def listen(host: str, port: int, *, keyed: bool = False) -> list[socket.socket]:
    """Bind all addresses of the host on one port, and listen.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines without `keyed`.
        PortInUseError, ListenError: The address cannot be used.
    """
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    try:
        for family, address in await _addresses(host, port, keyed=keyed):
            try:
                sockets.append(_bind(family, address, sockets[0].getsockname()[1] if sockets else port))
            except OSError as error:
                if error.errno not in _UNAVAILABLE:
                    raise
                unavailable = error  # "localhost" may resolve to an IPv6 address although IPv6 is disabled
        if not sockets and unavailable is not None:
            raise unavailable
    except OSError as error:
        for listener in sockets:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(host=host, port=port) from None
        raise ListenError(host=host, port=port, detail=error.strerror or str(error)) from error
    return sockets


def is_public(listener: socket.socket) -> bool:
    """Whether other machines can reach a listening socket."""
    return listener.family != _UNIX and not _is_loopback(listener.getsockname()[0])


def is_own_file(settings: ServerSettings, listener: socket.socket) -> bool:
    """Whether a socket is the Unix domain socket of the settings, not one that systemd owns."""
    return bool(settings.uds) and listener.family == _UNIX and listener.getsockname() == absolute_path(settings.uds)


def base_url(host: str, listener: socket.socket) -> str:
    """Return the base URL of a listening socket, with the host name from the settings."""
    if listener.family == _UNIX:
        return f"unix:{listener.getsockname()}"
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def activated_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd passed to this process; empty if there are none.

    Raises:
        SettingsError: A file descriptor is not a listening stream socket, or the variables are invalid.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "0")
    if not count.isdigit() or int(count) > _MAX_SOCKETS:
        raise _invalid_activation("LISTEN_FDS", f"{count!r} is not a valid number of sockets")
    return [_adopt(number) for number in range(_FIRST_FD, _FIRST_FD + int(count))]


async def _addresses(host: str, port: int, *, keyed: bool) -> list[tuple[int, str]]:
    if not 0 <= port <= 65535:
        raise _invalid_setting("port", f"{port} is not a port; valid are 1 to 65535, or 0 for any free one")
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        found = []
    addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    if not addresses:
        raise _invalid_setting("host", f"{host!r} cannot be resolved to an address")
    if not keyed and not all(_is_loopback(address) for _, address in addresses):
        raise _needs_keys(repr(host))
    return [(family, address) for family, address in addresses]


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


def _needs_keys(name: str) -> SettingsError:
    problem = (
        f"{name} can be reached from other machines, which requires API keys: set server.api_key_file or "
        f"CUPOLA_SERVER_API_KEYS, or listen on 127.0.0.1, ::1, localhost or a Unix domain socket (server.uds)"
    )
    return _invalid_setting("host", problem)


def _invalid_setting(key: str, problem: str) -> SettingsError:
    return SettingsError(key=f"server.{key}", source="the settings", problem=problem)


def _bind(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Inherited by accepted connections. Otherwise responses wait 40 ms for the client to acknowledge their headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # detects clients that vanished without closing
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _adopt(number: int) -> socket.socket:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        raise _invalid_activation("LISTEN_FDS", f"file descriptor {number} is not a socket")
    listener = socket.socket(fileno=number)
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise _invalid_activation(
            "LISTEN_FDS", f"the socket {number} is not a listening stream socket; use ListenStream= in the unit"
        )
    listener.set_inheritable(False)  # workers must not keep the address in use
    listener.setblocking(False)
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _invalid_activation(key: str, problem: str) -> SettingsError:
    return SettingsError(key=key, source="the environment, as systemd sets it", problem=problem)
