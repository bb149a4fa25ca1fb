"""Starts and stops the background service. If several processes start it at the same moment, only one of them does."""

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

from cupola.discovery.processes import is_alive, wait_for_exit
from cupola.discovery.service_files import ServiceFiles, ServiceInfo, find_service
from cupola.errors import ServiceStartError
from cupola.files import hold_lock
from cupola.settings import Settings

_AGENT_MODULE = "cupola_server.agent"
_STDERR_TAIL_BYTES = 4000
_START_MARGIN_S = 5.0
_STOP_MARGIN_S = 10.0
_KILL_TIMEOUT_S = 5.0


class Handshake(Struct, frozen=True, omit_defaults=True):
    """The one line that a starting service writes to standard output.

    Attributes:
        info: The service, once it is ready.
        error: Why it did not start, as sentences; "" if it is ready.
    """

    info: ServiceInfo | None = None
    error: str = ""


def ensure_service(settings: Settings, *, overrides: Sequence[str] = (), config: Path | None = None) -> ServiceInfo:
    """Return the background service of this user and cache folder, starting it if it does not run.

    Blocks until the service is ready.

    Args:
        settings: The settings of the caller.
        overrides: "section.key=value" strings that are part of `settings` and that a new service applies as well.
        config: The settings file, if it is not the default one.

    Raises:
        ServiceStartError: The service did not become ready. The detail gives the reason.
    """
    return find_service(settings) or start_service(settings, overrides=overrides, config=config)[0]


def start_service(
    settings: Settings, *, overrides: Sequence[str] = (), config: Path | None = None
) -> tuple[ServiceInfo, bool]:
    """Start the background service of this user and cache folder, unless it runs. See `ensure_service`.

    Returns:
        The service, and whether this call started it.

    Raises:
        ServiceStartError: The service did not become ready. The detail gives the reason.
    """
    files = ServiceFiles.of(settings)
    with _hold_start_lock(files, settings.service.start_timeout_s + _START_MARGIN_S):
        if found := find_service(settings):
            return found, False
        command = [*agent_command((*overrides, *_absolute_paths(settings)), config), "--detach"]
        handshake = _spawn(command, files, settings.service.start_timeout_s)
        if handshake.info:
            return handshake.info, True
        if found := find_service(settings):  # started without the start lock, for example by systemd
            return found, False
    raise ServiceStartError(detail=handshake.error, log=str(files.log))


def stop_service(settings: Settings) -> bool:
    """Stop the background service of this user and cache folder, and wait until its process has ended.

    The service finishes its running responses first. If it takes longer than `server.drain_timeout_s` and a margin, it
    is killed.

    Returns:
        Whether a service was running.

    Raises:
        ServiceStartError: Another process has been starting or stopping the service for too long.
    """
    files = ServiceFiles.of(settings)
    with _hold_start_lock(files, settings.service.start_timeout_s + _STOP_MARGIN_S):
        info = files.read()
        if info is None or not is_alive(info.pid, info.born):
            return False
        if not info.stopping:
            _send_signal(info, signal.SIGTERM)
        if not wait_for_exit(info.pid, info.born, timeout_s=settings.server.drain_timeout_s + _STOP_MARGIN_S):
            _send_signal(info, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
            wait_for_exit(info.pid, info.born, timeout_s=_KILL_TIMEOUT_S)
        files.remove(info)
    return True


def agent_command(overrides: Sequence[str], config: Path | None) -> list[str]:
    """Return the command that runs the background service in the foreground.

    Args:
        overrides: "section.key=value" strings that take precedence over the settings file.
        config: The settings file, if it is not the default one.
    """
    file = ["--config", str(config.absolute())] if config else []
    flags = [word for override in overrides for word in ("--set", override)]
    # -P: a module with the same name in the current folder must not be imported instead.
    return [sys.executable, "-P", "-m", _AGENT_MODULE, *file, *flags]


@contextmanager
def _hold_start_lock(files: ServiceFiles, timeout_s: float) -> Iterator[None]:
    """Keep other processes from starting or stopping the service.

    Raises:
        ServiceStartError: Another process held the lock for too long, or the folder cannot be used.
    """
    entered = False
    try:
        files.make_folder()
        with hold_lock(files.start_lock, timeout_s=timeout_s):
            entered = True
            yield
    except OSError as error:
        if entered:
            raise
        detail = f"Its folder {files.folder} cannot be used: {error.strerror}. Set service.dir to another folder."
        if isinstance(error, TimeoutError):
            detail = f"Another program has been starting or stopping it for {timeout_s:g} s."
        raise ServiceStartError(detail=detail, log=str(files.log)) from None


def _absolute_paths(settings: Settings) -> list[str]:
    """Return the folders as overrides, because relative paths depend on the current folder."""
    paths = {
        "cache.dir": settings.cache_dir,
        "service.dir": settings.service_dir,
        "service.log_dir": settings.log_dir,
        "responses.dir": settings.responses_dir,
    }
    return [f"{key}={path}" for key, path in paths.items()]


def _spawn(command: list[str], files: ServiceFiles, timeout_s: float) -> Handshake:
    with files.stderr.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, **_detached()
        )
    assert process.stdout is not None
    stdout, lines = process.stdout, list[bytes]()
    reader = Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    if is_late := reader.is_alive():
        _kill(process)
        reader.join()
    stdout.close()
    _release(process)
    if is_late:
        return Handshake(error=f"It was not ready within {timeout_s:g} s. Raise service.start_timeout_s.")
    try:
        return msgspec.json.decode(lines[0], type=Handshake)
    except msgspec.MsgspecError:
        return Handshake(error=f"It ended during startup: {_last_line(files.stderr)}")


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}  # a closed terminal sends SIGHUP to its own session only


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)  # the process has forked and ended; its group is the service


def _release(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.returncode = 0  # the service runs on, which Popen would warn about
    else:
        process.wait()  # with --detach, the process ends and its child is the service


def _last_line(path: Path) -> str:
    try:
        lines = path.read_bytes()[-_STDERR_TAIL_BYTES:].decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no error message.")


def _send_signal(info: ServiceInfo, signum: int) -> None:
    if is_alive(info.pid, info.born):
        os.kill(info.pid, signum)
