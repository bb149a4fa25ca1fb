"""The whole service, as `cupola serve` and the agent run it: engine, front-ends, server and signals."""

import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import anyio

from cupola.contracts import EngineView
from cupola.engine import open_engine
from cupola.plugins import PluginSet
from cupola.settings import Settings
from cupola_server.app import compose
from cupola_server.health import Health
from cupola_server.server import serve

logger = logging.getLogger(__name__)
_MAX_OPEN_FILES = 65536
KEYS_VARIABLE = "CUPOLA_SERVER_API_KEYS"
"""Removed from the environment after it is read, so that workers do not inherit it."""
OnListening = Callable[[EngineView, Health, str], Coroutine[None, None, None]]
"""Called in a separate task with engine, health and base URL as soon as the service accepts requests. It preloads
models and then sets `health.starting` to False."""


@dataclass(slots=True, eq=False)
class RunningService:
    """One service, kept up by whoever starts and stops it.

    Attributes:
        stopping: Set to stop the service, from inside or outside; `serve` waits for it.
        urls: Base URLs under which it answers; none before it listens.
    """

    stopping: anyio.Event
    urls: tuple[str, ...] = ()

    def stop(self) -> None:
        """Ask the service to stop: running requests may end, new ones are refused."""
        self.stopping.set()


async def run_service(
    settings: Settings,
    plugins: PluginSet,
    *,
    on_listening: OnListening,
    on_stopping: Callable[[], object],
    private: Path | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM, then let running requests finish. Requires asyncio.

    Args:
        settings: The settings.
        plugins: The plugins, already checked.
        on_listening: See `OnListening`.
        on_stopping: Called when the service starts to stop.
        private: An additional Unix domain socket to listen on; see `serve`.

    Returns:
        The number of a second signal that ended the draining early, or 0.

    Raises:
        CupolaError: The service could not start.
    """
    frontends = plugins.frontends()
    plugins.ensure_usable()  # two front-ends may have the same name
    health = _health(plugins)
    _raise_file_limit()
    stop = anyio.Event()
    service = RunningService(stop)
    async with open_engine(settings, plugins) as engine, anyio.create_task_group() as group:

        def ready(url: str) -> None:
            service.urls = (url, f"unix:{private}") if private else (url,)
            group.start_soon(on_listening, engine, health, url)

        async def run_server() -> None:
            # In a separate task, because on Python 3.11 hypercorn leaves its task marked as cancelled.
            app = compose(frontends, engine, health, service)
            observe = plugins.observe
            await serve(app, settings.server, ready=ready, stop=stop, health=health, observe=observe, private=private)
            group.cancel_scope.cancel()

        async def report_stopping() -> None:
            await stop.wait()
            on_stopping()

        group.start_soon(run_server)
        group.start_soon(report_stopping)
        second_signal = await _second_signal(stop)
        group.cancel_scope.cancel()
        return second_signal
    return 0


async def _second_signal(stop: anyio.Event) -> int:
    """Set `stop` on the first signal, and return the second one."""
    if sys.platform == "win32":  # asyncio receives no signals there; Ctrl+C cancels this task
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for signum in signals:
            if stop.is_set():
                return signum
            stop.set()
    return 0


def _health(plugins: PluginSet) -> Health:
    """Create the initial state from the plugins; the service is starting until `OnListening` changes that."""
    problem = "" if plugins.providers and plugins.cache_stores else "No execution provider or no cache is available."
    return Health(
        starting=True,
        problem=problem and f"{problem} Run `cupola plugins` to see why.",
        failed_plugins={failure.plugin for failure in plugins.failures},
    )


def _raise_file_limit() -> None:
    """Raise the limit of open files as far as the system allows; the usual 1024 limit the connections too much."""
    try:
        import resource  # noqa: PLC0415 - not available on Windows, which has no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
