"""`cupola serve`: the HTTP server in the foreground."""

import signal
import sys
from typing import TYPE_CHECKING

import click

from cupola_server.cli.invocation import Invocation, run

if TYPE_CHECKING:
    import anyio

    from cupola.contracts import EngineView
    from cupola.settings import Settings


@click.command()
@click.option("--host", help="Address to listen on; the setting server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one; the setting server.port.")
@click.option("--preload", "preloads", metavar="MODEL", multiple=True, help="Load a model at start; may be repeated.")
@click.pass_obj
def serve(invocation: Invocation, host: str | None, port: int | None, preloads: tuple[str, ...]) -> None:
    """Serve the models over HTTP until Ctrl+C."""
    overrides = []
    if host is not None:
        overrides.append(f"server.host={host}")
    if port is not None:
        overrides.append(f"server.port={port}")
    settings = invocation.settings(*overrides)
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
    from cupola_server.serving import serve as serve_app  # noqa: PLC0415

    plugins = invocation.usable_plugins(settings)
    frontends = plugins.frontends()
    plugins.ensure_usable()  # two front-ends may claim one name
    stop = anyio.Event()
    async with invocation.engine(settings, plugins) as engine, anyio.create_task_group() as group:

        def ready(url: str) -> None:
            group.start_soon(_announce, engine, preloads, url)

        async def serving() -> None:
            # In a task of its own: on Python 3.11 hypercorn leaves the task that ran it marked as cancelled.
            await serve_app(compose(frontends, engine), settings.server, ready=ready, stop=stop)
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


async def _announce(engine: "EngineView", preloads: tuple[str, ...], url: str) -> None:
    """Preload what was asked for, then say that the service is ready."""
    for name in preloads:
        await _preload(engine, name)
    click.echo(f"Cupola listens on {url}")
    if sys.stderr.isatty():
        _say(f"Try: curl {url}/v1/models    Ctrl+C stops.")


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
