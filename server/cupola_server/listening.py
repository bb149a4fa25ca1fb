"""Where the service listens: on loopback alone, until there are API keys.

ListenError               the address cannot be listened on
└── PortInUseError        another program listens there
"""

import errno
import socket
import sys
from dataclasses import dataclass
from ipaddress import ip_address

import anyio

from cupola import CupolaError, SettingsError

BACKLOG = 1024

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


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


async def listen(host: str, port: int) -> list[socket.socket]:
    """Bind every address of the host, all on one port, and listen.

    Raises:
        SettingsError: The host is unknown, or reachable from other machines.
        PortInUseError, ListenError: The address cannot be had.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in await _loopback_addresses(host, port):
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


def url(host: str, listener: socket.socket) -> str:
    """Return the base URL of a listening socket, with the host as the user wrote it."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


async def _loopback_addresses(host: str, port: int) -> list[tuple[int, str]]:
    def refused(key: str, problem: str) -> SettingsError:
        return SettingsError(key=f"server.{key}", source="the settings", problem=problem)

    if not 0 <= port <= 65535:
        raise refused("port", f"{port} is no port; they go from 0, for any free one, to 65535")
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        found = []
    addresses = list(dict.fromkeys((family, address[0]) for family, _, _, _, address in found))
    if not addresses:
        raise refused("host", f"this machine knows no address for {host!r}")
    if not all(ip_address(str(address).partition("%")[0]).is_loopback for _, address in addresses):
        problem = (
            f"{host!r} can be reached from other machines, which needs API keys, and this version has none; "
            f"127.0.0.1, ::1 and localhost are possible"
        )
        raise refused("host", problem)
    return [(family, str(address)) for family, address in addresses]


def _bound(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Accepted connections inherit it. Without it every reply waits 40 ms for the client to acknowledge its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
