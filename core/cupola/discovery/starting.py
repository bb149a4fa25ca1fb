"""Starting an agent, once, however many want it at the same moment."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
from msgspec import Struct

from cupola.discovery.files import AGENT, ServiceFiles, find_service
from cupola.discovery.info import ServiceInfo
from cupola.discovery.locked import locked
from cupola.errors import ServiceStartError
from cupola.settings import Settings

_STDERR_TAIL_BYTES = 4000
_MARGIN_S = 5.0


class Handshake(Struct, frozen=True, omit_defaults=True):
    """The one line that a starting agent writes to its standard output: how it is reached, or why it gives up."""

    info: ServiceInfo | None = None
    error: str = ""


def ensure_service(settings: Settings, *, overrides: Sequence[str] = (), config: Path | None = None) -> ServiceInfo:
    """Find the agent of this user and cache, or start one. Blocks until it is ready.

    Args:
        settings: What was set.
        overrides: The "section.key=value" strings among it that came from flags; a new agent is given them too.
        config: The settings file, if one was named.

    Raises:
        ServiceStartError: It did not become ready; says why.
    """
    return find_service(settings) or start_service(settings, overrides=overrides, config=config)[0]


def start_service(
    settings: Settings, *, overrides: Sequence[str] = (), config: Path | None = None
) -> tuple[ServiceInfo, bool]:
    """Start the agent of this user and cache, unless there is one. See `ensure_service`.

    Returns:
        The agent, and whether it is a new one.

    Raises:
        ServiceStartError: It did not become ready; says why.
    """
    files = ServiceFiles.of(settings)
    with starting_alone(files, settings.service.start_timeout_s + _MARGIN_S):
        if found := find_service(settings):
            return found, False
        command = [*agent_command((*overrides, *_paths(settings)), config), "--detach"]
        handshake = _spawn(command, files, settings.service.start_timeout_s)
        if handshake.info:
            return handshake.info, True
        if found := find_service(settings):  # one that nobody started in this way, such as a service of systemd
            return found, False
    raise ServiceStartError(detail=handshake.error, log=str(files.log))


@contextmanager
def starting_alone(files: ServiceFiles, timeout_s: float) -> Iterator[None]:
    """Keep everybody else from starting or stopping an agent.

    Raises:
        ServiceStartError: Somebody else took too long over it, or the folder cannot be used.
    """
    entered = False
    try:
        files.make_folder()
        with locked(files.start_lock, timeout_s=timeout_s):
            entered = True
            yield
    except OSError as error:
        if entered:
            raise
        reason = f"its folder {files.folder} cannot be used: {error.strerror}; set service.dir to another one"
        if isinstance(error, TimeoutError):
            reason = f"another program has been starting or stopping it for {timeout_s:g} s"
        raise ServiceStartError(detail=f"{reason[0].upper()}{reason[1:]}.", log=str(files.log)) from None


def agent_command(overrides: Sequence[str], config: Path | None) -> list[str]:
    """Say how to run the agent, in the foreground.

    Args:
        overrides: "section.key=value" strings that win over the settings file.
        config: The settings file, if it is another one.
    """
    named = ["--config", str(config.absolute())] if config else []
    flags = [word for override in overrides for word in ("--set", override)]
    # -P: a module of that name in the current folder is somebody else's.
    return [sys.executable, "-P", "-m", AGENT, *named, *flags]


def _paths(settings: Settings) -> list[str]:
    """Give paths in full, which may depend on the current folder."""
    paths = {
        "cache.dir": settings.cache_dir,
        "service.dir": settings.service_dir,
        "service.log_dir": settings.log_dir,
        "responses.dir": settings.responses_dir,
    }
    return [f"{key}={path}" for key, path in paths.items()]


def _spawn(command: list[str], files: ServiceFiles, timeout_s: float) -> Handshake:
    with files.last_words.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, **_detached()
        )
    assert process.stdout is not None
    stdout, lines = process.stdout, list[bytes]()
    reader = Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    if late := reader.is_alive():
        _kill(process)
        reader.join()
    stdout.close()
    _let_go(process)
    if late:
        return Handshake(error=f"It was not ready within {timeout_s:g} s; service.start_timeout_s gives it longer.")
    try:
        return msgspec.json.decode(lines[0], type=Handshake)
    except msgspec.MsgspecError:
        return Handshake(error=f"It ended at once: {_tail(files.last_words)}")


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}  # closing the terminal ends its session, and this is another one


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)  # the process has gone; its group is the agent


def _let_go(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.returncode = 0  # it lives on, which is what Popen would warn of
    else:
        process.wait()  # it only left the agent behind


def _tail(path: Path) -> str:
    try:
        lines = path.read_bytes()[-_STDERR_TAIL_BYTES:].decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing.")
