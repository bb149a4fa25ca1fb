"""`cupola downloads`: list, watch, start, resume and cancel the downloads of a running service."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.ui.tables import Column, Output, output_option, show_rows

if TYPE_CHECKING:
    from cupola.client.api import Download
    from cupola.client.connection import AsyncConnection

_COLUMNS = (
    Column("alias", "Alias"),
    Column("id", "Model ID", long=True),
    Column("state", "State"),
    Column("amount", "Amount", right=True),
    Column("rate", "Rate", right=True),
    Column("left", "Remaining", right=True),
    Column("error", "Reason", long=True),
)
_POLL_INTERVAL_S = 0.25


@click.group()
def downloads() -> None:
    """Manage the downloads of a running service."""


@downloads.command("list")
@output_option
@click.pass_obj
def list_downloads(invocation: Invocation, output: Output) -> None:
    """List the running downloads, then those that ended recently."""
    found = run(lambda: _list(invocation))
    show_rows([_row(download) for download in found], _COLUMNS, output=output, empty="There are no downloads.")


@downloads.command()
@click.pass_obj
def watch(invocation: Invocation) -> None:
    """Show a progress bar for each running download.

    The command ends when all of them have ended. Ctrl+C stops watching; the downloads continue.
    """
    failed = [download for download in run(lambda: _watch(invocation)) if download.state != "done"]
    for download in failed:
        click.echo(f"{download.alias}: {download.error or 'the download was cancelled'}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


@downloads.command(short_help="Start downloading MODEL in the service.")
@click.argument("name", metavar="MODEL")
@click.pass_obj
def start(invocation: Invocation, name: str) -> None:
    """Start downloading MODEL in the service and return immediately.

    A download that failed or was cancelled is resumed.
    """
    _start(invocation, name)


@downloads.command()
@click.argument("name", metavar="MODEL")
@click.pass_obj
def resume(invocation: Invocation, name: str) -> None:
    """Resume the download of MODEL; the same as `start`."""
    _start(invocation, name)


@downloads.command()
@click.argument("name", metavar="MODEL")
@click.pass_obj
def cancel(invocation: Invocation, name: str) -> None:
    """Cancel the download of MODEL; `resume` continues it."""

    async def work() -> str:
        from cupola.client import api  # noqa: PLC0415

        name_lower = name.strip().lower()
        async with _connect(invocation) as service:
            listed = (await service.request(api.LIST_DOWNLOADS)).downloads
            running = [download for download in listed if download.state == "running"]
            for download in running:
                if name_lower not in (download.id.lower(), download.alias.lower()):
                    continue
                if (await service.request(api.cancel_download(download.id))).cancelled:
                    return download.id
        return ""

    model_id = run(work)
    if not model_id:
        raise click.ClickException(f"{name!r} is not being downloaded. Run `cupola downloads list` to see what is.")
    click.echo(f"The download of {model_id} was cancelled. Run `cupola downloads resume {name}` to resume it.")


def _start(invocation: Invocation, name: str) -> None:
    async def work() -> "Download":
        from cupola.client import api  # noqa: PLC0415

        async with _connect(invocation) as service:
            return await service.request(api.start_download(name))

    download = run(work)
    if download.state == "done":
        click.echo(f"{download.id} is in the cache.")
    else:
        click.echo(f"{download.id} is being downloaded. Run `cupola downloads watch` to see the progress.")


async def _list(invocation: Invocation) -> "Sequence[Download]":
    from cupola.client import api  # noqa: PLC0415

    async with _connect(invocation) as service:
        return (await service.request(api.LIST_DOWNLOADS)).downloads


async def _watch(invocation: Invocation) -> "Sequence[Download]":
    """Show the running downloads until they end, and return their final states."""
    import anyio  # noqa: PLC0415

    from cupola.client import api  # noqa: PLC0415
    from cupola_server.cli.ui.progress import show_downloads  # noqa: PLC0415

    async with _connect(invocation) as service:
        with show_downloads() as show:
            watched_ids: set[str] = set()
            while True:
                found = (await service.request(api.LIST_DOWNLOADS)).downloads
                watched_ids |= {download.id for download in found if download.state == "running"}
                watched = [download for download in found if download.id in watched_ids]
                show(watched)
                if not any(download.state == "running" for download in watched):
                    return watched
                await anyio.sleep(_POLL_INTERVAL_S)


@asynccontextmanager
async def _connect(invocation: Invocation) -> "AsyncIterator[AsyncConnection]":
    """Connect to the running service.

    Raises:
        ServiceError: It is not running.
    """
    from cupola.client.connection import AsyncConnection, ServiceHandle  # noqa: PLC0415 - imports httpx

    service = ServiceHandle(invocation.settings(), start=False)
    async with AsyncConnection(service.require(), service.settings) as connection:
        yield connection


def _row(download: "Download") -> dict[str, Any]:
    from msgspec import structs  # noqa: PLC0415

    from cupola_server.cli.ui.progress import format_download  # noqa: PLC0415

    return {**structs.asdict(download), **structs.asdict(format_download(download))}
