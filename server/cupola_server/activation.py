"""Sockets that systemd opened and hands over when the first client comes (sd_listen_fds(3))."""

import os
import socket
import stat
from collections.abc import Mapping

from cupola.errors import SettingsError

_FIRST = 3
_MOST = 64


def activated_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Take over the sockets that are meant for this process; none if it was started otherwise.

    Raises:
        SettingsError: What was handed over is no listening stream socket, or the variables are no numbers.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "0")
    if not count.isdigit() or int(count) > _MOST:
        raise _refused("LISTEN_FDS", f"{count!r} is no number of sockets")
    return [_taken(number) for number in range(_FIRST, _FIRST + int(count))]


def _taken(number: int) -> socket.socket:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        raise _refused("LISTEN_FDS", f"the file descriptor {number} is no socket")
    listener = socket.socket(fileno=number)
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise _refused("LISTEN_FDS", f"the socket {number} does not listen for streams; use ListenStream= in the unit")
    listener.set_inheritable(False)  # workers shall not hold the address
    listener.setblocking(False)
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _refused(key: str, problem: str) -> SettingsError:
    return SettingsError(key=key, source="the environment, as systemd sets it", problem=problem)
