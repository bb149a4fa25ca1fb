"""The files of an agent: what it says of itself, its socket, its locks."""

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

from cupola.discovery.info import ServiceInfo
from cupola.discovery.processes import is_alive
from cupola.settings import Settings

AGENT = "cupola_server.agent"
"""The module that is the agent: `python -m` runs it."""

_LONGEST_SOCKET_PATH = 100  # in bytes; systems take 103 to 107
_CONNECT_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class ServiceFiles:
    """Where the files of the agent of one cache lie. The folder is open to this user alone."""

    folder: Path
    log: Path

    @classmethod
    def of(cls, settings: Settings) -> "ServiceFiles":
        """Find the place that settings lead to. Other spellings of one cache folder lead to the same."""
        key = hashlib.sha256(os.path.realpath(settings.cache_dir).encode(errors="surrogateescape")).hexdigest()[:12]
        return cls(settings.service_dir / key, settings.log_dir / f"service-{key}.log")

    @property
    def info(self) -> Path:
        """What the agent says of itself."""
        return self.folder / "agent.json"

    @property
    def lock(self) -> Path:
        """Locked by the agent for as long as it lives."""
        return self.folder / "agent.lock"

    @property
    def start_lock(self) -> Path:
        """Locked by whoever starts or stops the agent."""
        return self.folder / "start.lock"

    @property
    def last_words(self) -> Path:
        """What the agent writes to standard error before its log is open, and when it crashes."""
        return self.folder / "agent.stderr"

    @property
    def socket(self) -> Path:
        """The Unix domain socket; in a folder for temporary files if this one's path is too long for a socket."""
        path = self.folder / "agent.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        return Path(tempfile.gettempdir()) / f"cupola-{_user()}-{self.folder.name}" / "agent.sock"

    def make_folder(self) -> None:
        """Make the folder.

        Raises:
            OSError: It cannot be made.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> ServiceInfo | None:
        """Return what the file says, true or not; None if there is none, or no sense in it."""
        try:
            return msgspec.json.decode(self.info.read_bytes(), type=ServiceInfo)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, info: ServiceInfo) -> None:
        """Replace the file at once, for this user's eyes only.

        Raises:
            OSError: It cannot be written.
        """
        fresh = self.info.with_suffix(f".{os.getpid()}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(info))
            fresh.replace(self.info)
        finally:
            fresh.unlink(missing_ok=True)

    def remove(self, info: ServiceInfo) -> None:
        """Remove the file, unless another agent has written its own."""
        found = self.read()
        if found and (found.pid, found.born) == (info.pid, info.born):
            self.info.unlink(missing_ok=True)


def find_service(settings: Settings) -> ServiceInfo | None:
    """Find the agent of this user and cache; None if there is none that lives, answers and is not stopping."""
    info = ServiceFiles.of(settings).read()
    if info is None or info.stopping or not is_alive(info.pid, info.born) or not _answers(info):
        return None
    return info


def _answers(info: ServiceInfo) -> bool:
    return _connects_to_socket(info.socket) or _connects_to_url(info.url)


def _connects_to_socket(path: str) -> bool:
    if not path or sys.platform == "win32":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.settimeout(_CONNECT_TIMEOUT_S)
        probe.connect(path)
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
