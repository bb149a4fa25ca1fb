"""The service behind `foundry`'s commands: started when there is none, and told so as the original does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from cupola.discovery import ServiceInfo, find_service, start_service
from cupola.errors import ServiceError
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.service.starting import show_started

if TYPE_CHECKING:
    from cupola_server.cli.remote import RemoteService


def ready_service(invocation: Invocation, *, quiet: bool = False) -> ServiceInfo:
    """Find the service, or start it and say so.

    Args:
        invocation: Where settings come from.
        quiet: Stdout is for programs that read JSON; say it on stderr.

    Raises:
        ServiceStartError: It does not start.
    """
    settings = invocation.settings()
    if info := find_service(settings):
        return info
    info, is_new = start_service(settings)
    if is_new:
        show_started(info, err=quiet)
    return info


def wake_service(invocation: Invocation, *, quiet: bool = False) -> None:
    """Have the service running after a command that does not need it itself, as users of the original are used to.

    A service that cannot start is told, and the command goes on.
    """
    try:
        ready_service(invocation, quiet=quiet)
    except ServiceError as error:
        click.echo(f"Warning: {error}", err=True)


@asynccontextmanager
async def service(invocation: Invocation, info: ServiceInfo) -> "AsyncIterator[RemoteService]":
    """Open connections to the service."""
    from cupola_server.cli.remote import open_service  # noqa: PLC0415 - brings httpx

    async with open_service(info, invocation.settings()) as remote:
        yield remote
