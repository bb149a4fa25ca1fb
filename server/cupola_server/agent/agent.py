"""The agent process: it takes the lock, serves, announces its addresses, and shuts down gracefully."""

import logging
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import anyio
import msgspec

from cupola.contracts import EngineView
from cupola.discovery import Handshake, ServiceFiles, ServiceInfo, find_service, process_start
from cupola.errors import CupolaError, ServiceError
from cupola.files import hold_lock
from cupola.plugins import load_plugins
from cupola.settings import Settings, load_settings
from cupola_server.agent.logs import open_log, take_over_stderr
from cupola_server.health import Health
from cupola_server.listeners import PortInUseError
from cupola_server.service import KEYS_VARIABLE, run_service

logger = logging.getLogger(__name__)

_LOCK_SHARE = 0.8  # of the start timeout, so that the waiting process receives the error


def run_agent(overrides: Sequence[str], config: Path | None) -> int:
    """Serve until a signal arrives. Errors are logged and reported to the process that waits for the start.

    Returns:
        The exit code.
    """
    try:
        settings = load_settings(overrides, path=config)
        os.environ.pop(KEYS_VARIABLE, None)
        files = ServiceFiles.of(settings)
        files.make_folder()
        open_log(files.log, settings.service)
        with _exclusive(settings, files):
            return _serve(settings, files)
    except* CupolaError as group:
        error = _first(group)
        logger.error("%s", error)
        _send_handshake(Handshake(error=str(error)))
    except* OSError as group:
        logger.exception("The agent failed")
        _send_handshake(Handshake(error=f"{_first(group)}."))
    return 1


@contextmanager
def _exclusive(settings: Settings, files: ServiceFiles) -> Iterator[None]:
    """Hold the lock of this user and cache, after waiting for an agent that is stopping.

    Raises:
        ServiceError: Another agent is running.
    """
    if other := find_service(settings):
        raise ServiceError(detail=f"Another service is already running: process {other.pid} at {other.url}.")
    try:
        with hold_lock(files.lock, timeout_s=_LOCK_SHARE * settings.service.start_timeout_s):
            yield
    except TimeoutError:
        known = files.read()
        holder = f"process {known.pid}" if known else f"the process that locks {files.lock}"
        detail = f"Another service neither responds nor exits: {holder}. Kill it and try again."
        raise ServiceError(detail=detail) from None


def _serve(settings: Settings, files: ServiceFiles) -> int:
    server = msgspec.structs.replace(settings.server, port=settings.service.port, uds="")
    private = files.socket if sys.platform != "win32" else None
    if private:
        _make_private(private.parent)
    take_over_stderr(files.stderr)
    plugins = load_plugins(settings)
    plugins.ensure_usable()
    for failure in plugins.failures:
        logger.warning("The plugin %s failed: %s", failure.plugin, failure)
    lifecycle = _Lifecycle(settings, files)

    async def run() -> int:
        service_settings = msgspec.structs.replace(settings, server=server)
        return await run_service(
            service_settings, plugins, on_listening=lifecycle.begin, on_stopping=lifecycle.stop, private=private
        )

    try:
        return anyio.run(run, backend="asyncio") and 1
    except* PortInUseError:
        detail = (
            f"Port {server.port} of {server.host} is in use by another program. Choose another port with the setting "
            f"service.port; 0 picks a free one."
        )
        raise ServiceError(detail=detail) from None
    finally:
        lifecycle.end()


class _Lifecycle:
    """Announces the service when it starts, stops and ends."""

    def __init__(self, settings: Settings, files: ServiceFiles) -> None:
        self._settings, self._files = settings, files
        self._info: ServiceInfo | None = None

    async def begin(self, engine: EngineView, health: Health, url: str) -> None:
        """Announce the addresses, then preload models."""
        info = ServiceInfo(
            url=url,
            socket=str(self._files.socket) if sys.platform != "win32" else "",
            pid=os.getpid(),
            born=process_start(os.getpid()),
            started_unix=time.time(),
            cache_dir=str(self._settings.cache_dir),
            log=str(self._files.log),
            version=version("cupola"),
            providers=tuple(dict.fromkeys(device.provider for device in engine.devices())),
        )
        self._files.write(info)
        self._info = info
        logger.info("Cupola %s listens on %s, process %d, cache %s", info.version, url, info.pid, info.cache_dir)
        _send_handshake(Handshake(info=info))
        os.chdir(self._files.folder)  # the folder it was started in may be unmounted or deleted
        for name in self._settings.models.preload:
            try:
                await engine.download(name)
                await engine.load(name)
            except CupolaError as error:
                logger.warning("Preloading failed. %s", error)
        health.starting = False

    def stop(self) -> None:
        """Announce the shutdown, so that clients start another service, which waits for this one to end."""
        logger.info("Stopping; running requests have %g s to finish", self._settings.server.drain_timeout_s)
        if self._info:
            with suppress(OSError):
                self._files.write(msgspec.structs.replace(self._info, stopping=True))

    def end(self) -> None:
        """Remove the announcement."""
        if self._info:
            logger.info("Stopped")
            with suppress(OSError):
                self._files.remove(self._info)


def _make_private(folder: Path) -> None:
    """Create a folder that only this user can access.

    Raises:
        ServiceError: The folder belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()  # a link could lead to a folder of another user
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise ServiceError(detail=f"The socket's folder {folder} does not belong to this user. Remove it.")
    folder.chmod(0o700)


def _send_handshake(handshake: Handshake) -> None:
    """Report the result of the start on standard output, then close it."""
    try:
        os.write(1, msgspec.json.encode(handshake) + b"\n")
    except OSError:
        logger.info("No process waited for the start")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
