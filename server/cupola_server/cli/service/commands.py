"""The group `service` and its commands `start`, `stop`, `restart`, `status`, `ps` and `diag`."""

import platform
import sys
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from cupola_server.cli.invocation import Invocation
from cupola_server.cli.service.installation import install
from cupola_server.cli.ui.tables import Output, output_option, show_json

if TYPE_CHECKING:
    from cupola.discovery import ServiceFiles, ServiceInfo

_COMMAND_ORDER = ("start", "stop", "restart", "status", "ps", "set", "diag", "install")
_STOPPED = "🔴 Service is stopped."
_CPU_PROVIDER = "CPUExecutionProvider"
_LOG_POLL_INTERVAL_S = 0.2

_host_option = click.option("--host", help="Address to listen on, until the service is stopped.")
_port_option = click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on, until the service is stopped; 0: any free port."
)
_cachedir_option = click.option(
    "--cachedir", type=click.Path(file_okay=False), help="Model folder, until the service is stopped."
)


class ServiceGroup(click.Group):
    """Lists the commands in the order of their use and accepts `list` for `ps`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the commands."""
        return [*_COMMAND_ORDER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is no such command."""
        return super().get_command(ctx, "ps" if cmd_name == "list" else cmd_name)


@click.command("service", cls=ServiceGroup)
def service() -> None:
    """Manage the local model inference service."""


@service.command()
@_host_option
@_port_option
@_cachedir_option
@output_option
@click.pass_obj
def start(invocation: Invocation, host: str | None, port: int | None, cachedir: str | None, output: Output) -> None:
    """Start the service in the background and wait until it is ready."""
    info, is_new = _start(invocation, *_overrides(host, port, cachedir))
    if output == "json":
        show_json({"running": True, "webUrls": [info.url], "port": urlsplit(info.url).port, "pid": info.pid})
    elif is_new:
        show_started(info)
    else:
        click.echo(f"🟢 Service is already running on {info.url}/.")


@service.command()
@click.pass_obj
def stop(invocation: Invocation) -> None:
    """Stop the service after its running requests have finished."""
    _stop(invocation)


@service.command()
@_host_option
@_port_option
@_cachedir_option
@click.pass_obj
def restart(invocation: Invocation, host: str | None, port: int | None, cachedir: str | None) -> None:
    """Stop the service and start it again."""
    restart_service(invocation, *_overrides(host, port, cachedir))


@service.command()
@output_option
@click.pass_context
def status(ctx: click.Context, output: Output) -> None:
    """Show whether the service is running, and its address."""
    from cupola.discovery import find_service  # noqa: PLC0415

    invocation: Invocation = ctx.obj
    info = find_service(invocation.settings())
    if output == "json":
        show_json(_status(info))
    elif info:
        click.echo(f"🟢 Model management service is running on {info.url}/openai/status")
        click.echo(f"EP autoregistration status: {_describe_providers(info)}")
        click.echo(f"Valid EPs: {', '.join(info.providers)}")
    else:
        click.echo("🔴 Model management service is not running!")
        click.echo(f"To start the service, run the following command: {ctx.find_root().info_name} service start")


@service.command()
@output_option
@click.pass_obj
def ps(invocation: Invocation, output: Output) -> None:
    """Show the models that are loaded in the service."""
    import msgspec  # noqa: PLC0415

    from cupola.client import Client  # noqa: PLC0415 - imports httpx

    with Client(invocation.settings(), start=False) as client:
        models = client.list_loaded_models()
    if output == "json":
        show_json(msgspec.to_builtins(models))
    elif not models:
        click.echo("No models are currently loaded in the service")
    else:
        click.echo("Models running in service:")
        click.echo(f"    {'Alias':<31}Model ID")
        for model in models:
            click.echo(f"🟢  {model.alias:<31}{model.id}")


@service.command(short_help="Show details of the service and its log.")
@click.option("--logs", "logs_only", is_flag=True, help="Show only the log.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="Log lines to show.")
@click.option("-f", "--follow", is_flag=True, help="Keep showing new log lines until Ctrl+C.")
@click.pass_obj
def diag(invocation: Invocation, logs_only: bool, lines: int, follow: bool) -> None:
    """Show details of the service and the end of its log, to diagnose problems."""
    from importlib.metadata import version  # noqa: PLC0415 - takes 15 ms

    from cupola.discovery import ServiceFiles, find_service  # noqa: PLC0415

    settings = invocation.settings()
    files = ServiceFiles.of(settings)
    if not logs_only:
        info = find_service(settings)
        facts = {
            "Service": f"running on {info.url}/, PID {info.pid}" if info else "not running",
            "Socket": info.socket if info else "",
            "Cache": str(settings.cache_dir),
            "Log": str(files.log),
            "Cupola": f"{version('cupola')} on Python {platform.python_version()}, {platform.platform()}",
        }
        for name, fact in facts.items():
            if fact:
                click.echo(f"{name:<8} {fact}")
        click.echo()
    _show_log(files, lines)
    if follow:
        _follow(files.log)


service.add_command(install)


def restart_service(invocation: Invocation, *overrides: str) -> None:
    """Stop the service, start it again, and print both.

    Raises:
        ServiceStartError: It did not become ready.
    """
    _stop(invocation)
    show_started(_start(invocation, *overrides)[0])


def show_started(info: "ServiceInfo", *, err: bool = False) -> None:
    """Print that the service was started; to stderr if stdout is read by a program."""
    click.echo(f"🟢 Service is Started on {info.url}/, PID {info.pid}!", err=err)


def _start(invocation: Invocation, *overrides: str) -> "tuple[ServiceInfo, bool]":
    """Start the service unless it is running; returns the service and whether it was started now."""
    from cupola.discovery import start_service  # noqa: PLC0415

    settings = invocation.settings(*overrides)
    return start_service(settings, overrides=(*invocation.overrides, *overrides), config=invocation.config)


def _stop(invocation: Invocation) -> None:
    from cupola.discovery import stop_service  # noqa: PLC0415

    stop_service(invocation.settings())
    click.echo(_STOPPED)


def _overrides(host: str | None, port: int | None, cachedir: str | None) -> list[str]:
    options: dict[str, Any] = {"server.host": host, "service.port": port, "cache.dir": cachedir}
    return [f"{key}={value}" for key, value in options.items() if value is not None]


def _describe_providers(info: "ServiceInfo") -> str:
    accelerators = [name for name in info.providers if name != _CPU_PROVIDER]
    if not accelerators:
        return "Only the CPU execution provider is available."
    return f"Successfully downloaded and registered the following EPs: {', '.join(accelerators)}."


def _status(info: "ServiceInfo | None") -> dict[str, object]:
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


def _show_log(files: "ServiceFiles", lines: int) -> None:
    """Show the last lines of the log, then those of the stderr that a crash left."""
    for path in (files.log, files.stderr):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in deque(file, maxlen=lines):
                    click.echo(line.rstrip("\n"))
        except FileNotFoundError:
            if path == files.log:
                click.echo("The log is empty.", err=True)


def _follow(path: Path) -> None:
    position = path.stat().st_size if path.exists() else 0
    while True:
        size = path.stat().st_size if path.exists() else 0
        position = 0 if size < position else position  # the log was rotated
        if size > position:
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            click.echo(data.decode(errors="replace"), nl=False)
            sys.stdout.flush()
        time.sleep(_LOG_POLL_INTERVAL_S)
