"""`cupola downloads`: what a running service downloads. List, watch, start or resume, cancel."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Column, Output, output_option, show_rows

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
_INTERVAL_S = 0.25


@click.group()
def downloads() -> None:
    """Manage the downloads of a running service."""


@downloads.command("list")
@output_option
@click.pass_obj
def list_downloads(invocation: Invocation, output: Output) -> None:
    """Show the downloads under way, then the last ones that ended."""
    found = run(lambda: _listed(invocation))
    show_rows([_row(each) for each in found], _COLUMNS, output=output, empty="Nothing is or was downloaded.")


@downloads.command()
@click.pass_obj
def watch(invocation: Invocation) -> None:
    """Show a bar for every download under way, until all have ended. Ctrl+C ends only the watching."""
    failed = [each for each in run(lambda: _watched(invocation)) if each.state != "done"]
    for each in failed:
        click.echo(f"{each.alias}: {each.error or 'it was cancelled'}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


@downloads.command(short_help="Begin to download MODEL and return at once.")
@click.argument("name", metavar="MODEL")
@click.pass_obj
def start(invocation: Invocation, name: str) -> None:
    """Begin to download MODEL and return at once; one that failed or was cancelled goes on from where it was."""
    _begin(invocation, name)


@downloads.command()
@click.argument("name", metavar="MODEL")
@click.pass_obj
def resume(invocation: Invocation, name: str) -> None:
    """Go on with the download of MODEL, as `start` does."""
    _begin(invocation, name)


@downloads.command()
@click.argument("name", metavar="MODEL")
@click.pass_obj
def cancel(invocation: Invocation, name: str) -> None:
    """End the download of MODEL; what has arrived is kept for `resume`."""

    async def end() -> str:
        from cupola.client import api  # noqa: PLC0415

        wanted = name.strip().lower()
        async with _service(invocation) as service:
            for download in (await service.request(api.LIST_DOWNLOADS)).downloads:
                is_meant = download.state == "running" and wanted in (download.id.lower(), download.alias.lower())
                if is_meant and (await service.request(api.cancel_download(download.id))).cancelled:
                    return download.id
        return ""

    model_id = run(end)
    if not model_id:
        raise click.ClickException(f"{name!r} is not being downloaded. `cupola downloads list` shows what is.")
    click.echo(f"The download of {model_id} is cancelled. `cupola downloads resume {name}` goes on with it.")


def _begin(invocation: Invocation, name: str) -> None:
    async def begin() -> "Download":
        from cupola.client import api  # noqa: PLC0415

        async with _service(invocation) as service:
            return await service.request(api.start_download(name))

    found = run(begin)
    told = "is in the cache" if found.state == "done" else "is being downloaded; see `cupola downloads watch`"
    click.echo(f"{found.id} {told}.")


async def _listed(invocation: Invocation) -> "Sequence[Download]":
    from cupola.client import api  # noqa: PLC0415

    async with _service(invocation) as service:
        return (await service.request(api.LIST_DOWNLOADS)).downloads


async def _watched(invocation: Invocation) -> "Sequence[Download]":
    """Show the downloads under way; returns how they ended."""
    import anyio  # noqa: PLC0415

    from cupola.client import api  # noqa: PLC0415
    from cupola_server.cli.progress import shown_downloads  # noqa: PLC0415

    async with _service(invocation) as service:
        with shown_downloads() as show:
            watched: set[str] = set()
            while True:
                found = (await service.request(api.LIST_DOWNLOADS)).downloads
                watched |= {each.id for each in found if each.state == "running"}
                ours = [each for each in found if each.id in watched]
                show(ours)
                if not any(each.state == "running" for each in ours):
                    return ours
                await anyio.sleep(_INTERVAL_S)


@asynccontextmanager
async def _service(invocation: Invocation) -> "AsyncIterator[AsyncConnection]":
    """Open a connection to the service.

    Raises:
        ServiceError: It is not running.
    """
    from cupola.client.connection import AsyncConnection, ServiceHandle  # noqa: PLC0415 - imports httpx

    service = ServiceHandle(invocation.settings(), start=False)
    async with AsyncConnection(service.require(), service.settings) as connection:
        yield connection


def _row(download: "Download") -> dict[str, Any]:
    from msgspec import structs  # noqa: PLC0415

    from cupola_server.cli.phases import download_texts  # noqa: PLC0415

    return {**structs.asdict(download), **structs.asdict(download_texts(download))}
