"""One life of the agent: take the lock, serve, say how it is reached, stop in order."""

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
from cupola_server.hosting import KEYS_VARIABLE, run_service
from cupola_server.listening import PortInUseError

logger = logging.getLogger(__name__)

_LOCK_SHARE = 0.8  # of the time for starting; who waits for the start shall hear why nothing came of it


def run_agent(overrides: Sequence[str], config: Path | None) -> int:
    """Serve until a signal comes. What hinders it is told to whoever waits for the start, and logged.

    Returns:
        An exit code.
    """
    try:
        settings = load_settings(overrides, path=config)
        os.environ.pop(KEYS_VARIABLE, None)
        files = ServiceFiles.of(settings)
        files.make_folder()
        open_log(files.log, settings.service)
        with _alone(settings, files):
            return _serve(settings, files)
    except* CupolaError as group:
        error = _first(group)
        logger.error("%s", error)
        _tell(Handshake(error=str(error)))
    except* OSError as group:
        logger.exception("The agent ended")
        _tell(Handshake(error=f"{_first(group)}."))
    return 1


@contextmanager
def _alone(settings: Settings, files: ServiceFiles) -> Iterator[None]:
    """Be the only agent of this user and cache; one that is just stopping is waited for.

    Raises:
        ServiceError: Another one runs.
    """
    if other := find_service(settings):
        raise ServiceError(detail=f"Another one is running already, process {other.pid} at {other.url}.")
    try:
        with hold_lock(files.lock, timeout_s=_LOCK_SHARE * settings.service.start_timeout_s):
            yield
    except TimeoutError:
        known = files.read()
        which = f"process {known.pid}" if known else f"whichever holds {files.lock}"
        detail = f"Another one neither answers nor ends: {which}. End it, and try again."
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
    life = _Life(settings, files)

    async def run() -> int:
        whole = msgspec.structs.replace(settings, server=server)
        return await run_service(whole, plugins, listening=life.begin, stopping=life.stop, private=private)

    try:
        return anyio.run(run, backend="asyncio") and 1
    except* PortInUseError:
        detail = (
            f"Port {server.port} of {server.host} is in use by another program. Choose another one with the setting "
            f"service.port; 0 takes a free one."
        )
        raise ServiceError(detail=detail) from None
    finally:
        life.end()


class _Life:
    """What the agent tells of itself as it begins, stops and ends."""

    def __init__(self, settings: Settings, files: ServiceFiles) -> None:
        self._settings, self._files = settings, files
        self._info: ServiceInfo | None = None

    async def begin(self, engine: EngineView, health: Health, url: str) -> None:
        """Say how it is reached, then preload what shall be."""
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
        _tell(Handshake(info=info))
        os.chdir(self._files.folder)  # the folder that it was started in may be unmounted or deleted
        for name in self._settings.models.preload:
            try:
                await engine.download(name)
                await engine.load(name)
            except CupolaError as error:
                logger.warning("Preloading failed. %s", error)
        health.starting = False

    def stop(self) -> None:
        """Say that it stops: who needs a service is to start the next one, which waits for this one's end."""
        logger.info("Stopping; running answers have %g s", self._settings.server.drain_timeout_s)
        if self._info:
            with suppress(OSError):
                self._files.write(msgspec.structs.replace(self._info, stopping=True))

    def end(self) -> None:
        """Leave nothing behind that says it runs."""
        if self._info:
            logger.info("Stopped")
            with suppress(OSError):
                self._files.remove(self._info)


def _make_private(folder: Path) -> None:
    """Have a folder that is this user's and nobody else may look into.

    Raises:
        ServiceError: Somebody else made it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()  # a link might lead to where somebody else wants the socket
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise ServiceError(detail=f"{folder}, where its socket shall lie, is no folder of this user. Remove it.")
    folder.chmod(0o700)


def _tell(handshake: Handshake) -> None:
    """Answer whoever waits for the start, once; standard output then leads nowhere."""
    try:
        os.write(1, msgspec.json.encode(handshake) + b"\n")
    except OSError:
        logger.info("Nobody waited for the start")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
