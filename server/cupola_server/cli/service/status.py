"""`service status`: where the service runs, in the sentence that SDKs look for an address in."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from cupola_server.cli.invocation import Invocation
from cupola_server.cli.tables import Output, output_option, show_json

if TYPE_CHECKING:
    from cupola.discovery import ServiceInfo

_OWN = "CPUExecutionProvider"


@click.command()
@output_option
@click.pass_context
def status(ctx: click.Context, output: Output) -> None:
    """Say whether the service runs, and where."""
    from cupola.discovery import find_service  # noqa: PLC0415

    invocation: Invocation = ctx.obj
    info = find_service(invocation.settings())
    if output == "json":
        show_json(_described(info))
    elif info:
        click.echo(f"🟢 Model management service is running on {info.url}/openai/status")
        click.echo(f"EP autoregistration status: {_registered(info)}")
        click.echo(f"Valid EPs: {', '.join(info.providers)}")
    else:
        click.echo("🔴 Model management service is not running!")
        click.echo(f"To start the service, run the following command: {ctx.find_root().info_name} service start")


def _registered(info: "ServiceInfo") -> str:
    added = [name for name in info.providers if name != _OWN]
    if not added:
        return "No EPs beside the CPU's are usable."
    return f"Successfully downloaded and registered the following EPs: {', '.join(added)}."


def _described(info: "ServiceInfo | None") -> dict[str, object]:
    if info is None:
        return {"running": False, "state": "not_running"}
    return {
        "running": True,
        "state": "ready",
        "pid": info.pid,
        "webUrls": [info.url],
        "socket": info.socket,
        "startedAt": datetime.fromtimestamp(info.started_unix, UTC).isoformat(timespec="seconds"),
        "uptime": f"{max(0.0, time.time() - info.started_unix):.0f}s",
        "logFile": info.log,
        "cacheDirectory": info.cache_dir,
        "executionProviders": info.providers,
        "version": info.version,
    }
