"""`cupola cache`: list, location, cd, remove; `verify`, `export` and `import` have a file of their own."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from cupola_server.cli.completing import model_names
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.keeping import export, held_id, import_, verify
from cupola_server.cli.listing_group import ListingGroup
from cupola_server.cli.tables import Column, Output, output_option, show_rows, size_text

_COLUMNS = (
    Column("alias", "Alias"),
    Column("id", "Model ID", long=True),
    Column("size_bytes", "Size", size_text, right=True),
    Column("path", "Folder", long=True),
)


@click.group(cls=ListingGroup)
def cache() -> None:
    """Manage the models on this machine."""


for command in (verify, export, import_):
    cache.add_command(command)


@cache.command("list")
@output_option
@click.pass_obj
def list_cached(invocation: Invocation, output: Output) -> None:
    """Show the models that are downloaded."""

    async def cached() -> list[dict[str, Any]]:
        async with invocation.engine() as engine:
            return [
                {
                    "alias": model.info.alias,
                    "id": model.info.id,
                    "size_bytes": model.size_bytes,
                    "path": str(model.path),
                }
                for model in await engine.cached()
            ]

    show_rows(run(cached), _COLUMNS, output=output, empty="No model is downloaded. `cupola model list` shows them all.")


@cache.command()
@click.pass_obj
def location(invocation: Invocation) -> None:
    """Show the folder of the downloaded models."""

    async def folder() -> str:
        async with invocation.engine() as engine:
            return str(engine.cache_location)

    click.echo(run(folder))


@cache.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_obj
def cd(invocation: Invocation, folder: Path) -> None:
    """Keep models in FOLDER from now on. Models that are elsewhere stay there.

    It is written into the settings file; a running service takes it up when it is started again.
    """
    from cupola_server.cli.settings_file import write_setting  # noqa: PLC0415

    folder = folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = write_setting(invocation.settings_path(), "cache", "dir", str(folder))
    click.echo(f"Models are kept in {folder} from now on, says {path}.")
    used = invocation.settings().cache_dir
    if used != folder:
        by = "CUPOLA_CACHE_DIR" if "CUPOLA_CACHE_DIR" in os.environ else "--set"
        click.echo(f"But {by} names {used}, and wins over the settings file.", err=True)


@cache.command()
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete MODEL from this machine."""

    async def find() -> str:
        async with invocation.engine() as engine:
            return await held_id(engine, name)

    async def delete() -> bool:
        from cupola_server.cli.remote import release  # noqa: PLC0415 - brings httpx

        await release(model_id, invocation.settings())
        async with invocation.engine() as engine:
            return await engine.remove(model_id)

    model_id = run(find)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("There is nobody to ask. Add --yes to delete the model.")
        click.confirm(f"Delete {model_id} from this machine?", abort=True)
    if not run(delete):
        raise click.ClickException(f"{model_id} is gone already.")
    click.echo(f"{model_id} is deleted.")
