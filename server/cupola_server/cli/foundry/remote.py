"""Requests to the service: load, unload and list models, with the original's messages."""

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


async def load_model(service: RemoteService, model_id: str, *, shown: str, ttl_s: float, still: str) -> None:
    """Load a model into the service and print the result.

    Args:
        service: The client of the service.
        model_id: The model's id.
        shown: The model's name in messages.
        ttl_s: Idle seconds before the model is unloaded; 0 for never.
        still: The progress message where standard output is not a terminal.

    Raises:
        ServiceUnreachableError, ServiceReplyError: The model was not loaded.
    """
    async with _clock(still):
        await service.request(api.load(model_id, ttl_s))
    click.echo(f"🟢 Model {shown} loaded successfully")


async def unload_idle(service: RemoteService, model_id: str) -> None:
    """Unload a model unless it is running turns."""
    with suppress(ServiceReplyError):
        await service.unload(model_id, wait_s=0)


async def loaded_ids(service: RemoteService) -> Sequence[str]:
    """List the ids of the loaded models."""
    return [model.id for model in (await service.request(api.LIST_LOADED)).models]


@asynccontextmanager
async def _clock(still: str) -> AsyncIterator[None]:
    """Animate a clock until the block ends; print `still` where standard output is not a terminal."""
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
