"""Loading by the service, for `foundry model load` and `run`: a clock that runs, then a sentence."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle

import anyio
import click

from cupola.client import api
from cupola.errors import ServiceReplyError
from cupola_server.cli.remote import RemoteService

_CLOCKS = "🕛🕐🕑🕒🕓🕔🕕🕖🕗🕘🕙🕚"
_TICK_S = 0.1


async def load(service: RemoteService, model_id: str, *, shown: str, ttl_s: float, still: str) -> None:
    """Have a model loaded, and tell it.

    Args:
        service: Who loads.
        model_id: What.
        shown: What the user calls it.
        ttl_s: Idle seconds after which it is unloaded; 0 for never.
        still: What is written meanwhile where nothing can move.

    Raises:
        ServiceUnreachableError, ServiceReplyError: It is not loaded.
    """
    async with _clock(still):
        await service.do(api.load(model_id, ttl_s))
    click.echo(f"🟢 Model {shown} loaded successfully")


async def unload_idle(service: RemoteService, model_id: str) -> None:
    """Have a model unloaded unless it is answering somebody."""
    with suppress(ServiceReplyError):
        await service.unload(model_id, wait_s=0)


async def loaded(service: RemoteService) -> Sequence[str]:
    """List the ids of what is loaded."""
    return [model.id for model in (await service.do(api.LIST_LOADED)).models]


@asynccontextmanager
async def _clock(still: str) -> AsyncIterator[None]:
    """Show a clock that runs until the block ends; where there is no terminal, one that stands."""
    if not sys.stdout.isatty():
        click.echo(still)
        yield
        return

    async def tick() -> None:
        for face in cycle(_CLOCKS):
            click.echo(f"\r{face} Loading model... ", nl=False)
            await anyio.sleep(_TICK_S)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        try:
            yield
        finally:
            group.cancel_scope.cancel()
            click.echo()
