"""`cupola serve`: the HTTP server in the foreground."""

import os
import sys
from typing import TYPE_CHECKING

import click

from cupola_server.cli.invocation import Invocation, run

if TYPE_CHECKING:
    from cupola.contracts import EngineView
    from cupola.settings import Settings
    from cupola_server.health import Health


@click.command()
@click.option("--host", help="Address to listen on (setting server.host).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any free port (setting server.port)."
)
@click.option("--uds", metavar="PATH", help="Listen on a Unix domain socket instead (setting server.uds).")
@click.option("--preload", "preloads", metavar="MODEL", multiple=True, help="Load a model at startup; repeatable.")
@click.option("--fallback", metavar="MODEL", help="Fallback for models that cannot run here (setting models.fallback).")
@click.pass_obj
def serve(
    invocation: Invocation,
    host: str | None,
    port: int | None,
    uds: str | None,
    preloads: tuple[str, ...],
    fallback: str | None,
) -> None:
    """Serve models over HTTP in the foreground until Ctrl+C."""
    from cupola_server.service import KEYS_VARIABLE  # noqa: PLC0415 - imports the server

    overrides = []
    if host is not None:
        overrides.append(f"server.host={host}")
    if port is not None:
        overrides.append(f"server.port={port}")
    if uds is not None:
        overrides.append(f"server.uds={uds}")
    if fallback is not None:
        overrides.append(f"models.fallback={fallback}")
    settings = invocation.settings(*overrides)
    os.environ.pop(KEYS_VARIABLE, None)
    names = dict.fromkeys((*settings.models.preload, *preloads))
    if signum := run(lambda: _serve(invocation, settings, tuple(names))):
        raise click.exceptions.Exit(128 + signum)


async def _serve(invocation: Invocation, settings: "Settings", preloads: tuple[str, ...]) -> int:
    from cupola_server.middleware import label_logs  # noqa: PLC0415
    from cupola_server.service import run_service  # noqa: PLC0415

    plugins = invocation.usable_plugins(settings)
    label_logs()

    async def announce(engine: "EngineView", health: "Health", url: str) -> None:
        """Preload the models, then announce that the service is ready."""
        for name in preloads:
            await _preload(engine, name)
        health.starting = False
        click.echo(f"Cupola listens on {url}")
        if sys.stderr.isatty():
            target = f"--unix-socket {url.removeprefix('unix:')} http://localhost" if url.startswith("unix:") else url
            _print_status(f"Try: curl {target}/v1/models    Press Ctrl+C to stop.")

    def stopping() -> None:
        timeout_s = settings.server.drain_timeout_s
        _print_status(
            f"Stopping. Running requests have {timeout_s:g} s to finish. Press Ctrl+C again to stop immediately."
        )

    return await run_service(settings, plugins, on_listening=announce, on_stopping=stopping)


async def _preload(engine: "EngineView", name: str) -> None:
    """Load a model. If that fails, print the error; the service starts without it."""
    from cupola.errors import CupolaError  # noqa: PLC0415
    from cupola_server.cli.chat import ensure_loaded  # noqa: PLC0415

    try:
        await ensure_loaded(engine, name)
    except CupolaError as error:
        _print_status(f"Cannot preload {name}: {error}")


def _print_status(text: str) -> None:
    click.echo(text, err=True)
