"""The whole service, as `cupola serve` and the agent run it: engine, front-ends, server and signals."""

import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import anyio

from cupola.contracts import EngineView
from cupola.engine import open_engine
from cupola.plugins import PluginSet
from cupola.settings import Settings
from cupola_server.app import compose
from cupola_server.health import Health
from cupola_server.service import RunningService
from cupola_server.serving import serve

logger = logging.getLogger(__name__)

_MOST_FILES = 65536

KEYS_VARIABLE = "CUPOLA_SERVER_API_KEYS"
"""Removed from the environment once it is read; workers shall not inherit it."""

Listening = Callable[[EngineView, Health, str], Coroutine[None, None, None]]
"""Called in a task of its own with engine, health and base URL, as soon as requests are answered. It preloads what
shall be, and then sets `health.starting` to False."""


async def run_service(
    settings: Settings,
    plugins: PluginSet,
    *,
    listening: Listening,
    stopping: Callable[[], object],
    private: Path | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM comes, then let running answers end. Needs asyncio.

    Args:
        settings: What was set.
        plugins: Those to work with, checked.
        listening: See `Listening`.
        stopping: Called when it begins to stop.
        private: A Unix domain socket to listen on as well; see `serve`.

    Returns:
        The second signal, which cut the draining short, or 0.

    Raises:
        CupolaError: It could not start; nothing of it is left.
    """
    frontends = plugins.frontends()
    plugins.ensure_usable()  # two front-ends may claim one name
    health = _health(plugins)
    _raise_file_limit()
    stop = anyio.Event()
    service = RunningService(stop)
    async with open_engine(settings, plugins) as engine, anyio.create_task_group() as group:

        def ready(url: str) -> None:
            service.urls = (url, f"unix:{private}") if private else (url,)
            group.start_soon(listening, engine, health, url)

        async def serving() -> None:
            # In a task of its own: on Python 3.11 hypercorn leaves the task that ran it marked as cancelled.
            app = compose(frontends, engine, health, service)
            observe = plugins.observe
            await serve(app, settings.server, ready=ready, stop=stop, health=health, observe=observe, private=private)
            group.cancel_scope.cancel()

        async def telling() -> None:
            await stop.wait()
            stopping()

        group.start_soon(serving)
        group.start_soon(telling)
        hurried = await _second_signal(stop)
        group.cancel_scope.cancel()
        return hurried
    return 0


async def _second_signal(stop: anyio.Event) -> int:
    """Set `stop` at the first signal and return the second one."""
    if sys.platform == "win32":  # asyncio receives no signals there; Ctrl+C cancels this task
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for signum in signals:
            if stop.is_set():
                return signum
            stop.set()
    return 0


def _health(plugins: PluginSet) -> Health:
    """Begin with what is known of the plugins; the service is starting until `Listening` says otherwise."""
    lacking = "" if plugins.providers and plugins.cache_stores else "No execution provider or no cache works."
    return Health(
        starting=True,
        problem=lacking and f"{lacking} `cupola plugins` says why.",
        failed_plugins={failure.plugin for failure in plugins.failures},
    )


def _raise_file_limit() -> None:
    """Allow as many open connections as the system lets this process have; the usual limit of 1024 is soon reached."""
    try:
        import resource  # noqa: PLC0415 - there is none on Windows, and no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
