"""`cupola cache verify`, `export` and `import`: models that can be vouched for, and carried to other machines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from cupola_server.cli.completing import model_names
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Column, Output, output_option, show_rows, size_text

if TYPE_CHECKING:
    from cupola.contracts import Verification
    from cupola.engine import Engine

_COLUMNS = (
    Column("model_id", "Model ID", long=True),
    Column("verdict", "Verdict"),
    Column("faults", "What is wrong", "; ".join, long=True),
    Column("path", "Folder", long=True),
)
_BUNDLE_SUFFIX = ".tar"
_NOT_DOWNLOADED = "{!r} is not downloaded. `cupola cache list` shows what is."


@click.command(short_help="Compare cached models with their digests.")
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=model_names)
@output_option
@click.pass_obj
def verify(invocation: Invocation, name: str | None, output: Output) -> None:
    """Read MODEL, or every cached model, again and compare each file with its digest. Exit code 1 if one differs."""
    from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

    async def check() -> "Sequence[Verification]":
        async with invocation.engine() as engine:
            model_id = await held_id(engine, name) if name else None
            store = await engine.holder(model_id) if model_id else engine.cache
            with shown_progress(name or "the cache") as progress:
                return await store.verify(model_id, progress)

    results = run(check)
    rows: list[dict[str, Any]] = [{**structs.asdict(result), "verdict": _verdict(result)} for result in results]
    show_rows(rows, _COLUMNS, output=output, empty="No model is downloaded, so there is nothing to check.")
    if any(result.faults for result in results):
        click.echo("Delete what is broken (`cupola cache remove MODEL-ID`) and bring it again.", err=True)
        raise click.exceptions.Exit(1)


@click.command(short_help="Write MODEL into one FILE to carry elsewhere.")
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def export(invocation: Invocation, name: str, file: Path | None, force: bool) -> None:
    """Write MODEL into one FILE, for a machine without network; `cupola cache import` takes it in there.

    FILE is a folder or a file name; by default it is named after the model.
    """
    from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

    async def write() -> str:
        async with invocation.engine() as engine:
            model_id = await _cached_id(engine, name)
            target = _bundle_path(file, model_id)
            if target.exists() and not force:
                raise click.ClickException(f"{target} is there already. --force replaces it.")
            with shown_progress(name) as progress:
                await (await engine.holder(model_id)).export(model_id, target, progress)
        return f"{model_id} is in {target} ({size_text(target.stat().st_size)})."

    click.echo(run(write))


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def import_(invocation: Invocation, file: Path) -> None:
    """Take in a model from a FILE that `cupola cache export` wrote. Every byte is checked."""
    from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

    async def read() -> str:
        async with invocation.engine() as engine:
            with shown_progress(file.name) as progress:
                cached = await engine.cache.import_file(file, progress)
        return f"{cached.info.id} is in the cache ({size_text(cached.size_bytes)}): {cached.path}"

    click.echo(run(read))


async def held_id(engine: "Engine", name: str) -> str:
    """Return the id of a model on this machine, also of a broken one, which is in no listing and goes by its id alone.

    Raises:
        click.ClickException: It is not on this machine.
        ModelNotFoundError: Nobody knows it.
    """
    from cupola.errors import ModelNotFoundError  # noqa: PLC0415

    failure: Exception = click.ClickException(_NOT_DOWNLOADED.format(name))
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
    """Return the id of a cached model that goes by a name."""
    status = await engine.resolve(name)
    if not status.cached:
        raise click.ClickException(_NOT_DOWNLOADED.format(name))
    return status.info.id


def _bundle_path(wished: Path | None, model_id: str) -> Path:
    named = model_id.replace(":", "-").replace("/", "-") + _BUNDLE_SUFFIX
    if wished is None:
        return Path(named)
    return wished / named if wished.is_dir() else wished


def _verdict(result: "Verification") -> str:
    if result.faults:
        return "broken"
    return "whole" if result.has_digests else "no digests"
