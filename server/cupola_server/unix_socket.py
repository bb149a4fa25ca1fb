"""Unix domain sockets that only this user can connect to."""

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from cupola.errors import CupolaError, SettingsError


@dataclass(eq=False, kw_only=True)
class SocketFileError(CupolaError):
    """The Unix domain socket cannot be created."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"Cannot listen on the Unix domain socket {self.path}: {self.detail}."


def bind_unix_socket(name: str, backlog: int) -> socket.socket:
    """Listen on a path, for this user only (mode 0600). A stale socket of a dead service is replaced.

    Raises:
        SettingsError: Python has no Unix domain sockets on this platform.
        SocketFileError: The path is taken by another file or program, or cannot be used.
    """
    if not hasattr(socket, "AF_UNIX"):
        problem = (
            "Python has no Unix domain sockets on this platform, and Cupola has no named pipe yet; "
            "listen on the loopback address instead"
        )
        raise SettingsError(key="server.uds", source="the settings", problem=problem)
    path = Path(absolute_path(name))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        mask = os.umask(0o177)  # other users must not have access in the moment before the mode is set
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise SocketFileError(path=str(path), detail=error.strerror or str(error)) from error
    except SocketFileError:
        listener.close()
        raise
    return listener


def absolute_path(name: str) -> str:
    """Return the absolute path of a socket."""
    return str(Path(name).expanduser().absolute())


class SocketFile:
    """The file of a listening socket, distinguished from a later one at the same path."""

    def __init__(self, listener: socket.socket) -> None:
        self._path = Path(listener.getsockname())
        self._identity = _identity(self._path)

    def remove(self) -> None:
        """Remove the file, unless another service has replaced it."""
        if self._identity and _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketFileError(path=str(path), detail="the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise SocketFileError(path=str(path), detail="another program listens on it, possibly another Cupola")
