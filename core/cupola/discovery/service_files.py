"""The files of a background service: its description, its socket, its locks."""

import contextlib
import hashlib
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from cupola.discovery.processes import is_alive
from cupola.files import replace_file
from cupola.settings import Settings

_LONGEST_SOCKET_PATH_BYTES = 100  # systems allow 103 to 107
_CONNECT_TIMEOUT_S = 2.0


class ServiceInfo(Struct, frozen=True, kw_only=True):
    """The addresses of a background service and the identity of its process, as stored in `agent.json`.

    Attributes:
        url: Its base URL, "http://127.0.0.1:43121".
        socket: Path of its Unix domain socket, which serves the same API without an API key; "" on systems without
            such sockets.
        pid: Its process id.
        born: When the process started, as an opaque string; see `process_start`.
        started_unix: When the service became ready, in seconds since 1970.
        cache_dir: The folder of its cache.
        log: Path of its log file.
        version: Cupola's version.
        providers: Full names of the execution providers that can run models.
        stopping: Whether it is shutting down: it finishes running responses and accepts no more requests.
    """

    url: str
    socket: str
    pid: int
    born: str
    started_unix: float
    cache_dir: str
    log: str
    version: str
    providers: tuple[str, ...] = ()
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class ServiceFiles:
    """Paths of the files of the background service of one cache folder. Other users have no access to the folder."""

    folder: Path
    log: Path

    @classmethod
    def of(cls, settings: Settings) -> "ServiceFiles":
        """Return the files for these settings. All spellings of one cache folder share them."""
        key = hashlib.sha256(os.path.realpath(settings.cache_dir).encode(errors="surrogateescape")).hexdigest()[:12]
        return cls(settings.service_dir / key, settings.log_dir / f"service-{key}.log")

    @property
    def info(self) -> Path:
        """The `ServiceInfo` of the running service, as JSON."""
        return self.folder / "agent.json"

    @property
    def lock(self) -> Path:
        """Locked by the service while it runs."""
        return self.folder / "agent.lock"

    @property
    def start_lock(self) -> Path:
        """Locked by the process that is starting or stopping the service."""
        return self.folder / "start.lock"

    @property
    def stderr(self) -> Path:
        """The service's standard error before its log is open, and the traceback of a crash."""
        return self.folder / "agent.stderr"

    @property
    def socket(self) -> Path:
        """The Unix domain socket; in the folder for temporary files if its path here would be too long."""
        path = self.folder / "agent.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH_BYTES:
            return path
        return Path(tempfile.gettempdir()) / f"cupola-{_user()}-{self.folder.name}" / "agent.sock"

    def make_folder(self) -> None:
        """Create the folder with mode 0700, unless it exists.

        Raises:
            OSError: It cannot be created.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> ServiceInfo | None:
        """Return the stored info, even if its process has ended; None if the file is missing or damaged."""
        try:
            return msgspec.json.decode(self.info.read_bytes(), type=ServiceInfo)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, info: ServiceInfo) -> None:
        """Replace the stored info atomically.

        Raises:
            OSError: The file cannot be written.
        """
        replace_file(self.info, msgspec.json.encode(info))

    def remove(self, info: ServiceInfo) -> None:
        """Delete the stored info, unless it belongs to another process by now."""
        found = self.read()
        if found and (found.pid, found.born) == (info.pid, info.born):
            self.info.unlink(missing_ok=True)


def find_service(settings: Settings) -> ServiceInfo | None:
    """Find the background service of this user and cache folder.

    Blocks for up to two seconds for each address that does not answer.

    Returns:
        Its info; None if no service runs, it does not accept connections, or it is stopping.
    """
    info = ServiceFiles.of(settings).read()
    if info is None or info.stopping or not is_alive(info.pid, info.born) or not _accepts_connections(info):
        return None
    return info


def _accepts_connections(info: ServiceInfo) -> bool:
    return _connects_to_socket(info.socket) or _connects_to_url(info.url)


def _connects_to_socket(path: str) -> bool:
    if not path or sys.platform == "win32":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, contextlib.suppress(OSError):
        client.settimeout(_CONNECT_TIMEOUT_S)
        client.connect(path)
        return True
    return False


def _connects_to_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 0)
        socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def _user() -> str:
    return str(os.getuid()) if sys.platform != "win32" else os.environ.get("USERNAME", "user")
