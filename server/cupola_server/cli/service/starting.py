"""`service start`, `stop` and `restart`."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from cupola_server.cli.invocation import Invocation
from cupola_server.cli.tables import Output, output_option, show_json

if TYPE_CHECKING:
    from cupola.discovery import ServiceInfo

_STOPPED = "🔴 Service is stopped."

_port_option = click.option("--port", type=click.IntRange(0, 65535), help="Where to listen, this once; 0: any port.")
_host_option = click.option("--host", help="Address to listen on, this once.")
_cachedir_option = click.option("--cachedir", type=click.Path(file_okay=False), help="Folder of the models, this once.")


@click.command()
@_host_option
@_port_option
@_cachedir_option
@output_option
@click.pass_obj
def start(invocation: Invocation, host: str | None, port: int | None, cachedir: str | None, output: Output) -> None:
    """Start the service in the background, and return when it is ready."""
    info, is_new = start_with(invocation, *once(host, port, cachedir))
    if output == "json":
        show_json({"running": True, "webUrls": [info.url], "port": urlsplit(info.url).port, "pid": info.pid})
    elif is_new:
        show_started(info)
    else:
        click.echo(f"🟢 Service is already running on {info.url}/.")


@click.command()
@click.pass_obj
def stop(invocation: Invocation) -> None:
    """Stop the service; running answers may end first."""
    stop_it(invocation)


@click.command()
@_host_option
@_port_option
@_cachedir_option
@click.pass_obj
def restart(invocation: Invocation, host: str | None, port: int | None, cachedir: str | None) -> None:
    """Stop the service and start it anew."""
    restart_it(invocation, *once(host, port, cachedir))


def restart_it(invocation: Invocation, *overrides: str) -> None:
    """Stop the service and start it anew, telling both."""
    stop_it(invocation)
    show_started(start_with(invocation, *overrides)[0])


def stop_it(invocation: Invocation) -> None:
    """Stop the service and say so."""
    from cupola.discovery import stop_service  # noqa: PLC0415

    stop_service(invocation.settings())
    click.echo(_STOPPED)


def start_with(invocation: Invocation, *overrides: str) -> "tuple[ServiceInfo, bool]":
    """Start the service, unless one runs; says whether it is a new one.

    Raises:
        ServiceStartError: It did not become ready.
    """
    from cupola.discovery import start_service  # noqa: PLC0415

    settings = invocation.settings(*overrides)
    return start_service(settings, overrides=(*invocation.overrides, *overrides), config=invocation.config)


def show_started(info: "ServiceInfo", *, err: bool = False) -> None:
    """Say that the service is started; on stderr where stdout is for programs."""
    click.echo(f"🟢 Service is Started on {info.url}/, PID {info.pid}!", err=err)


def once(host: str | None, port: int | None, cachedir: str | None) -> list[str]:
    """Make overrides of the options that were given."""
    given: dict[str, Any] = {"server.host": host, "service.port": port, "cache.dir": cachedir}
    return [f"{key}={value}" for key, value in given.items() if value is not None]
