"""`cupola cache`: list, location, cd, remove, verify, export and import."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.options import ListingGroup, complete_model_name
from cupola_server.cli.ui.tables import Column, Output, format_bytes, output_option, show_rows

if TYPE_CHECKING:
    from cupola.contracts import Verification
    from cupola.engine import Engine

_COLUMNS = (
    Column("alias", "Alias"),
    Column("id", "Model ID", long=True),
    Column("size_bytes", "Size", format_bytes, right=True),
    Column("path", "Folder", long=True),
)
_VERIFICATION_COLUMNS = (
    Column("model_id", "Model ID", long=True),
    Column("verdict", "Verdict"),
    Column("faults", "What is wrong", "; ".join, long=True),
    Column("path", "Folder", long=True),
)
_EXPORT_SUFFIX = ".tar"


@click.group(cls=ListingGroup)
def cache() -> None:
    """Manage the downloaded models."""


@cache.command("list")
@output_option
@click.pass_obj
def list_cached(invocation: Invocation, output: Output) -> None:
    """List the downloaded models."""

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

    empty = "No model is downloaded. Run `cupola model list` to see the available models."
    show_rows(run(cached), _COLUMNS, output=output, empty=empty)


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
    """Set the folder for downloaded models.

    Existing models are not moved. The folder is saved in the settings file; a running service uses it after a restart.
    """
    from cupola_server.cli.settings_file import write_setting  # noqa: PLC0415

    folder = folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = write_setting(invocation.settings_path(), "cache", "dir", str(folder))
    click.echo(f"The model folder is now {folder} (saved in {path}).")
    effective = invocation.settings().cache_dir
    if effective != folder:
        source = "CUPOLA_CACHE_DIR" if "CUPOLA_CACHE_DIR" in os.environ else "--set"
        click.echo(f"Warning: {source} sets it to {effective} and takes precedence over the settings file.", err=True)


@cache.command()
@click.argument("name", metavar="MODEL", shell_complete=complete_model_name)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def remove(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete MODEL from this machine."""

    async def find() -> str:
        async with invocation.engine() as engine:
            return await _stored_id(engine, name)

    async def delete() -> bool:
        from cupola_server.cli.remote import unload_before_removal  # noqa: PLC0415 - imports httpx

        await unload_before_removal(model_id, invocation.settings())
        async with invocation.engine() as engine:
            return await engine.remove(model_id)

    model_id = run(find)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Cannot ask for confirmation without a terminal. Use --yes to delete the model.")
        click.confirm(f"Delete {model_id} from this machine?", abort=True)
    if not run(delete):
        raise click.ClickException(f"{model_id} is already deleted.")
    click.echo(f"{model_id} was deleted.")


@cache.command(short_help="Check cached models against their digests.")
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete_model_name)
@output_option
@click.pass_obj
def verify(invocation: Invocation, name: str | None, output: Output) -> None:
    """Read every file of MODEL, or of all cached models, and compare it with its digest.

    The exit code is 1 if a file differs.
    """
    from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

    async def check() -> "Sequence[Verification]":
        async with invocation.engine() as engine:
            model_id = await _stored_id(engine, name) if name else None
            store = await engine.holder(model_id) if model_id else engine.cache
            with show_progress(name or "the cache") as progress:
                return await store.verify(model_id, progress)

    results = run(check)
    rows: list[dict[str, Any]] = [{**structs.asdict(result), "verdict": _verdict(result)} for result in results]
    show_rows(rows, _VERIFICATION_COLUMNS, output=output, empty="No model is downloaded, so there is nothing to check.")
    if any(result.faults for result in results):
        click.echo("Delete the broken models with `cupola cache remove MODEL-ID`, then download them again.", err=True)
        raise click.exceptions.Exit(1)


@cache.command(short_help="Export MODEL to a file for another machine.")
@click.argument("name", metavar="MODEL", shell_complete=complete_model_name)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_obj
def export(invocation: Invocation, name: str, file: Path | None, force: bool) -> None:
    """Export MODEL to a single FILE; `cupola cache import` imports it on another machine, without network access.

    FILE is a file name or a folder; by default the file is named after the model.
    """
    from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

    async def write() -> str:
        async with invocation.engine() as engine:
            model_id = await _cached_id(engine, name)
            target = _export_path(file, model_id)
            if target.exists() and not force:
                raise click.ClickException(f"{target} already exists. Use --force to overwrite it.")
            with show_progress(name) as progress:
                await (await engine.holder(model_id)).export(model_id, target, progress)
        return f"{model_id} was exported to {target} ({format_bytes(target.stat().st_size)})."

    click.echo(run(write))


@cache.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def import_(invocation: Invocation, file: Path) -> None:
    """Import a model from a FILE written by `cupola cache export`. All files are verified."""
    from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

    async def read() -> str:
        async with invocation.engine() as engine:
            with show_progress(file.name) as progress:
                cached = await engine.cache.import_file(file, progress)
        return f"{cached.info.id} is in the cache ({format_bytes(cached.size_bytes)}): {cached.path}"

    click.echo(run(read))


async def _stored_id(engine: "Engine", name: str) -> str:
    """Return the id of a model on this machine. A broken model is not listed, so it is found only by its id.

    Raises:
        click.ClickException: The model is not on this machine.
        ModelNotFoundError: No model has this name.
    """
    from cupola.errors import ModelNotFoundError  # noqa: PLC0415

    failure: Exception = _not_downloaded(name)
    try:
        status = await engine.resolve(name)
    except ModelNotFoundError as error:
        model_id, failure = name, error
    else:
        model_id = status.info.id
        if status.cached:
            return model_id
    if await engine.cache.verify(model_id, lambda _: None):
        return model_id
    raise failure


async def _cached_id(engine: "Engine", name: str) -> str:
    """Return the id of a complete cached model."""
    status = await engine.resolve(name)
    if not status.cached:
        raise _not_downloaded(name)
    return status.info.id


def _not_downloaded(name: str) -> click.ClickException:
    return click.ClickException(f"{name!r} is not downloaded. Run `cupola cache list` to see the downloaded models.")


def _export_path(path: Path | None, model_id: str) -> Path:
    default = model_id.replace(":", "-").replace("/", "-") + _EXPORT_SUFFIX
    if path is None:
        return Path(default)
    return path / default if path.is_dir() else path


def _verdict(result: "Verification") -> str:
    if result.faults:
        return "broken"
    return "whole" if result.has_digests else "no digests"
