"""`foundry service` and `foundry zip-logs`, and starting the service for other commands."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cupola.discovery import ServiceInfo, find_service, start_service
from cupola.errors import ServiceError
from cupola_server.cli.foundry.help import FoundryCommand, FoundryGroup
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.service import service as shared
from cupola_server.cli.service.commands import show_started
from cupola_server.cli.zip_logs import write_logs

if TYPE_CHECKING:
    from cupola_server.cli.remote import RemoteService


class FoundryServiceGroup(FoundryGroup):
    """The commands of `cupola service` with the original's help and usage errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands."""
        return shared.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is no such command."""
        command = shared.get_command(ctx, cmd_name)
        if command is None:
            return None
        return FoundryCommand(command.name, callback=command.callback, params=command.params, help=command.help)


@click.command("service", cls=FoundryServiceGroup)
def service() -> None:
    """Manage the local model inference service."""


@click.command("zip-logs", cls=FoundryCommand, hidden=True)
@click.pass_obj
def zip_logs(invocation: Invocation) -> None:
    """Collect the logs in a zip file."""
    path = Path(time.strftime("foundry-logs-%Y%m%d-%H%M%S.zip"))
    write_logs(invocation, path)
    click.echo(f"Logs collected in {path.absolute()}")


def ready_service(invocation: Invocation, *, quiet: bool = False) -> ServiceInfo:
    """Find the service, or start it and print that it was started.

    Args:
        invocation: Provides the settings.
        quiet: Print to stderr, because standard output is JSON.

    Raises:
        ServiceStartError: The service did not start.
    """
    settings = invocation.settings()
    if info := find_service(settings):
        return info
    info, is_new = start_service(settings)
    if is_new:
        show_started(info, err=quiet)
    return info


def wake_service(invocation: Invocation, *, quiet: bool = False) -> None:
    """Start the service for a command that does not need it itself, as the original does.

    If the service does not start, print a warning and continue.
    """
    try:
        ready_service(invocation, quiet=quiet)
    except ServiceError as error:
        click.echo(f"Warning: {error}", err=True)


@asynccontextmanager
async def connect(invocation: Invocation, info: ServiceInfo) -> "AsyncIterator[RemoteService]":
    """Open a client of the service."""
    from cupola_server.cli.remote import open_service  # noqa: PLC0415 - imports httpx

    async with open_service(info, invocation.settings()) as remote:
        yield remote
