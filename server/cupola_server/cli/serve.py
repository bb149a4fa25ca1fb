"""`cupola serve`: the HTTP server in the foreground."""

import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from cupola_server.cli.invocation import Invocation, run

if TYPE_CHECKING:
    import anyio

    from cupola.contracts import EngineView
    from cupola.plugins import PluginSet
    from cupola.settings import Settings
    from cupola_server.health import Health

_KEYS_VARIABLE = "CUPOLA_SERVER_API_KEYS"
_MOST_FILES = 65536


@click.command()
@click.option("--host", help="Address to listen on; the setting server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one; the setting server.port.")
@click.option("--uds", metavar="PATH", help="Listen on a Unix domain socket instead; the setting server.uds.")
@click.option("--preload", "preloads", metavar="MODEL", multiple=True, help="Load a model at start; may be repeated.")
@click.pass_obj
def serve(
    invocation: Invocation, host: str | None, port: int | None, uds: str | None, preloads: tuple[str, ...]
) -> None:
    """Serve the models over HTTP until Ctrl+C."""
    overrides = []
    if host is not None:
        overrides.append(f"server.host={host}")
    if port is not None:
        overrides.append(f"server.port={port}")
    if uds is not None:
        overrides.append(f"server.uds={uds}")
    settings = invocation.settings(*overrides)
    os.environ.pop(_KEYS_VARIABLE, None)  # read; workers shall not inherit it
    names = dict.fromkeys((*settings.models.preload, *preloads))
    if signum := run(lambda: _serve(invocation, settings, tuple(names))):
        raise click.exceptions.Exit(128 + signum)


async def _serve(invocation: Invocation, settings: "Settings", preloads: tuple[str, ...]) -> int:
    """Serve until a signal comes.

    Returns:
        The signal that cut the draining short, or 0.
    """
    import anyio  # noqa: PLC0415

    from cupola_server.app import compose  # noqa: PLC0415
    from cupola_server.request_ids import label_logs  # noqa: PLC0415
    from cupola_server.service import RunningService  # noqa: PLC0415
    from cupola_server.serving import serve as serve_app  # noqa: PLC0415

    plugins = invocation.usable_plugins(settings)
    frontends = plugins.frontends()
    plugins.ensure_usable()  # two front-ends may claim one name
    health = _health(plugins)
    label_logs()
    _raise_file_limit()
    stop = anyio.Event()
    service = RunningService(stop)
    async with invocation.engine(settings, plugins) as engine, anyio.create_task_group() as group:

        def ready(url: str) -> None:
            service.urls = (url,)
            group.start_soon(_announce, engine, preloads, url, health)

        async def serving() -> None:
            # In a task of its own: on Python 3.11 hypercorn leaves the task that ran it marked as cancelled.
            app = compose(frontends, engine, health, service)
            await serve_app(app, settings.server, ready=ready, stop=stop, health=health, observe=plugins.observe)
            group.cancel_scope.cancel()

        group.start_soon(serving)
        hurried = await _second_signal(stop, settings.server.drain_timeout_s)
        group.cancel_scope.cancel()
        return hurried
    return 0


async def _second_signal(stop: "anyio.Event", drain_s: float) -> int:
    """Set `stop` at the first signal and return the second one."""
    import anyio  # noqa: PLC0415

    if sys.platform == "win32":  # asyncio receives no signals there; Ctrl+C cancels this task
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for signum in signals:
            if stop.is_set():
                return signum
            _say(f"Stopping; running answers have {drain_s:g} s. Ctrl+C again stops at once.")
            stop.set()
    return 0


def _health(plugins: "PluginSet") -> "Health":
    """Begin with what is known of the plugins; the service is starting until `_announce` says otherwise."""
    from cupola_server.health import Health  # noqa: PLC0415

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


async def _announce(engine: "EngineView", preloads: tuple[str, ...], url: str, health: "Health") -> None:
    """Preload what was asked for, then say that the service is ready."""
    for name in preloads:
        await _preload(engine, name)
    health.starting = False
    click.echo(f"Cupola listens on {url}")
    if sys.stderr.isatty():
        target = f"--unix-socket {url.removeprefix('unix:')} http://localhost" if url.startswith("unix:") else url
        _say(f"Try: curl {target}/v1/models    Ctrl+C stops.")


async def _preload(engine: "EngineView", name: str) -> None:
    """Load a model; one that cannot be loaded is told and leaves the others to be served."""
    from cupola.errors import CupolaError  # noqa: PLC0415
    from cupola_server.cli.chat import make_ready  # noqa: PLC0415

    try:
        await make_ready(engine, name)
    except CupolaError as error:
        _say(f"Preloading failed. {error}")


def _say(text: str) -> None:
    click.echo(text, err=True)
