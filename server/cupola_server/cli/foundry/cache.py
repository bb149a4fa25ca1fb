"""`foundry cache`: list, location, cd, remove."""

import sys
from typing import TYPE_CHECKING

import click

from cupola_server.cli.foundry.errors import FoundryFailure
from cupola_server.cli.foundry.help import FoundryGroup
from cupola_server.cli.foundry.service import wake_service
from cupola_server.cli.foundry.variants import cached_table, device_option, find_variants, model_argument
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.ui.tables import Output, output_option, show_json

if TYPE_CHECKING:
    from cupola.contracts.models import CachedModel, ModelInfo


@click.group(cls=FoundryGroup)
def cache() -> None:
    """Manage the local cache."""


@cache.command("list")
@output_option
@click.pass_obj
def list_cached(invocation: Invocation, output: Output) -> None:
    """List the models in the local cache."""

    async def cached() -> "list[CachedModel]":
        async with invocation.engine() as engine:
            return list(await engine.cached())

    wake_service(invocation, quiet=output == "json")
    models = run(cached)
    if output == "json":
        show_json(
            [
                {"alias": each.info.alias, "id": each.info.id, "size_bytes": each.size_bytes, "path": str(each.path)}
                for each in models
            ]
        )
    else:
        click.echo(cached_table(each.info for each in models))


cache.alias("list", "ls")


@cache.command()
@output_option
@click.pass_obj
def location(invocation: Invocation, output: Output) -> None:
    """Show the directory of the local cache."""

    async def folder() -> str:
        async with invocation.engine() as engine:
            return str(engine.cache_location)

    wake_service(invocation, quiet=output == "json")
    path = run(folder)
    if output == "json":
        show_json({"path": path})
    else:
        click.echo(f"💾 Cache directory path: {path}")


@cache.command()
@click.argument("folder", metavar="path", type=click.Path(file_okay=False, resolve_path=True))
@click.pass_obj
def cd(invocation: Invocation, folder: str) -> None:
    """Change the directory of the local cache."""
    from cupola_server.cli.service.settings import save_and_restart  # noqa: PLC0415 - no other command needs it

    save_and_restart(invocation, {"cache.dir": folder})


@cache.command()
@model_argument
@device_option
@click.option("-y", "--yes", is_flag=True, help="Delete the model without asking")
@click.pass_obj
def remove(invocation: Invocation, name: str, device: str, yes: bool) -> None:
    """Delete a model from the local cache."""

    async def found() -> "list[ModelInfo]":
        async with invocation.engine() as engine:
            return [each.info for each in await find_variants(engine, name, device) if each.cached]

    async def delete(model_id: str) -> bool:
        from cupola_server.cli.remote import unload_before_removal  # noqa: PLC0415 - imports httpx

        await unload_before_removal(model_id, invocation.settings())
        async with invocation.engine() as engine:
            return await engine.remove(model_id)

    wake_service(invocation)
    models = run(found)
    if not models:
        raise FoundryFailure(f"Model {name} was not found in the local cache.")
    info = models[0]
    click.echo(f"⚠️ This will delete model '{info.alias} ({info.id})' from cache.")
    if not yes and not _confirm():
        raise click.Abort
    if not run(lambda: delete(info.id)):
        raise FoundryFailure(f"Model {info.id} was already deleted.")
    click.echo(f"Deleted model {info.id} from the cache.")


def _confirm() -> bool:
    """Ask for confirmation, which may also come from a pipe."""
    click.echo("⚠️ Are you sure you want to delete this model from the local cache? (y/n)")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
