"""Where the service listens: on loopback or a Unix domain socket, and elsewhere only when it asks for API keys.

ListenError               the address cannot be listened on
└── PortInUseError        another program listens there
"""

import errno
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import anyio

from cupola.errors import CupolaError, SettingsError
from cupola.settings import ServerSettings
from cupola_server.activation import activated_sockets
from cupola_server.unix_socket import absolute, bind_unix_socket

BACKLOG = 1024

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_UNIX = getattr(socket, "AF_UNIX", None)


@dataclass(eq=False, kw_only=True)
class ListenError(CupolaError):
    """The address cannot be listened on."""

    host: str
    port: int
    detail: str = ""

    def __str__(self) -> str:
        return f"Cannot listen on {self.host}, port {self.port}: {self.detail}. Change server.host or server.port."


@dataclass(eq=False, kw_only=True)
class PortInUseError(ListenError):
    """Another program listens there, perhaps another Cupola."""

    def __str__(self) -> str:
        return (
            f"Port {self.port} of {self.host} is in use, perhaps by another Cupola. Stop that program, or choose "
            f"another port with server.port; 0 takes a free one."
        )


async def open_listeners(
    settings: ServerSettings, *, keyed: bool, environ: Mapping[str, str] = os.environ
) -> list[socket.socket]:
    """Return listening sockets: those that systemd hands over, else the Unix domain socket, else the address.

    Args:
        settings: Where to listen.
        keyed: Whether requests need an API key. Without, nothing that others can reach is listened on.
        environ: Where systemd says what it hands over.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines without keys.
        PortInUseError, ListenError, SocketFileError: The address cannot be had.
    """
    if sockets := activated_sockets(environ):
        for listener in sockets:
            if not keyed and is_public(listener):
                raise _open_to_others(f"the socket {listener.getsockname()} that systemd handed over")
        return sockets
    if settings.uds:
        return [bind_unix_socket(settings.uds, BACKLOG)]
    return await listen(settings.host, settings.port, keyed=keyed)


async def listen(host: str, port: int, *, keyed: bool = False) -> list[socket.socket]:
    """Bind every address of the host, all on one port, and listen.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines and not `keyed`.
        PortInUseError, ListenError: The address cannot be had.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in await _addresses(host, port, keyed=keyed):
            try:
                sockets.append(_bound(family, address, sockets[0].getsockname()[1] if sockets else port))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error  # "localhost" may name an address of IPv6 where that is switched off
        if not sockets and absent is not None:
            raise absent
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
    """Whether a socket is the Unix domain socket of the settings, and not one that systemd keeps."""
    return bool(settings.uds) and listener.family == _UNIX and listener.getsockname() == absolute(settings.uds)


def url(host: str, listener: socket.socket) -> str:
    """Return the base URL of a listening socket, with the host as the user wrote it."""
    if listener.family == _UNIX:
        return f"unix:{listener.getsockname()}"
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


async def _addresses(host: str, port: int, *, keyed: bool) -> list[tuple[int, str]]:
    if not 0 <= port <= 65535:
        raise _refused("port", f"{port} is no port; they go from 0, for any free one, to 65535")
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        found = []
    addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    if not addresses:
        raise _refused("host", f"this machine knows no address for {host!r}")
    if not keyed and not all(_is_loopback(address) for _, address in addresses):
        raise _open_to_others(repr(host))
    return [(family, address) for family, address in addresses]


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


def _open_to_others(what: str) -> SettingsError:
    problem = (
        f"{what} can be reached from other machines, which needs API keys: set server.api_key_file or "
        f"CUPOLA_SERVER_API_KEYS, or listen on 127.0.0.1, ::1, localhost or a Unix domain socket (server.uds)"
    )
    return _refused("host", problem)


def _refused(key: str, problem: str) -> SettingsError:
    return SettingsError(key=f"server.{key}", source="the settings", problem=problem)


def _bound(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Accepted connections inherit it. Without it every reply waits 40 ms for the client to acknowledge its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # finds clients that vanished without a word
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
