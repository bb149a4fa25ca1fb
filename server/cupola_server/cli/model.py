"""`cupola model`: list, info, download, run; `load`, `unload`, `tune`, `add` and `import` have files of their own."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.bringing import add, import_
from cupola_server.cli.completing import model_names
from cupola_server.cli.filters import Filter, admitted, filter_option
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.listing_group import ListingGroup
from cupola_server.cli.loading import load, unload
from cupola_server.cli.placing import placement_options, placing
from cupola_server.cli.tables import Column, Output, output_option, show_fields, show_rows, size_text
from cupola_server.cli.tune import tune

if TYPE_CHECKING:
    from cupola.contracts import ModelStatus
    from cupola.model_index import Listing

_COLUMNS = (
    Column("alias", "Alias"),
    Column("device", "Device"),
    Column("task", "Task", lambda task: task.removesuffix("-completion")),
    Column("size_bytes", "Size", size_text, right=True),
    Column("license", "License"),
    Column("id", "Model ID", long=True),
    Column("state", "State"),
)
_FIELDS = (
    *_COLUMNS,
    Column("display_name", "Name"),
    Column("publisher", "Publisher"),
    Column("provider", "Provider"),
    Column("source", "Source"),
    Column("context_length", "Context", lambda tokens: f"{tokens} tokens" if tokens else ""),
    Column("license_description", "Terms"),
    Column("path", "Folder"),
)

_RECENT_MINUTES = 5  # a listing of that age needs no remark


@click.group(cls=ListingGroup)
def model() -> None:
    """Discover, download and run models."""


for command in (load, unload, tune, add, import_):
    model.add_command(command)


@model.command("list", short_help="Show the models of every catalog.")
@filter_option
@output_option
@click.pass_obj
def list_models(invocation: Invocation, filters: "Sequence[Filter]", output: Output) -> None:
    """Show every model of every catalog, or those that the filters admit."""

    async def models() -> "tuple[Sequence[ModelStatus], Sequence[Listing]]":
        async with invocation.engine() as engine:
            return await engine.models(), engine.listings()

    statuses, listings = run(models)
    rows = [_row(status) for status in statuses if admitted(status.info, filters)]
    empty = "No catalog offers a model. `cupola plugins` shows the catalogs."
    if statuses:
        empty = f"None of {len(statuses)} models is admitted by the filters."
    show_rows(rows, _COLUMNS, output=output, empty=empty)
    for listing in listings:
        if remark := _remark(listing):
            click.echo(remark, err=True)


@model.command()
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@output_option
@click.pass_obj
def info(invocation: Invocation, name: str, output: Output) -> None:
    """Show everything known about MODEL."""

    async def details() -> dict[str, Any]:
        async with invocation.engine() as engine:
            status = await engine.resolve(name)
            paths = {cached.info.id: str(cached.path) for cached in await engine.cached()}
            return {**_row(status), "path": paths.get(status.info.id, "")}

    show_fields(run(details), _FIELDS, output=output)


@model.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=model_names)
@placement_options
@click.pass_obj
def download(invocation: Invocation, name: str | None, provider: str | None, device: str | None) -> None:
    """Bring MODEL into the cache: the variant that runs best here.

    Without MODEL it is the one that the setting models.default names.
    """
    from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

    async def bring() -> str:
        settings = invocation.settings(*placing(provider, device))
        wanted = name or settings.models.default
        async with invocation.engine(settings) as engine:
            status = await engine.resolve(wanted)
            with shown_progress(status.info.alias) as progress:
                cached = await engine.download(wanted, progress)
        told = "was in the cache already" if status.cached else f"is downloaded ({size_text(cached.size_bytes)})"
        return f"{cached.info.id} {told}: {cached.path}"

    click.echo(run(bring))


@model.command("run", short_help="Chat with MODEL, or answer one prompt.")
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=model_names)
@click.option("--prompt", help="Answer this and exit; - reads it from stdin.")
@click.option("--system", default="", help="System message: how the model should behave.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 always takes the likeliest token.")
@click.option("--seed", type=int, help="Same seed, same answer.")
@placement_options
@click.pass_obj
def run_model(  # noqa: PLR0913, PLR0917 - one argument an option
    invocation: Invocation,
    name: str | None,
    prompt: str | None,
    system: str,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    provider: str | None,
    device: str | None,
) -> None:
    """Chat with MODEL, or answer one prompt; downloads the model if needed.

    Without MODEL it is the one that the setting models.default names. Without --prompt, and with a pipe on stdin,
    the prompt is what comes through the pipe.
    """
    from cupola.messages import Sampling  # noqa: PLC0415
    from cupola_server.cli.chat import ChatSession, run_chat, run_once  # noqa: PLC0415

    question = _question(prompt)
    _ensure_text(question or "", system)
    settings = invocation.settings(*placing(provider, device))
    session = ChatSession(
        name or settings.models.default,
        system=system,
        sampling=Sampling(temperature=temperature, seed=seed),
        max_tokens=max_tokens,
    )
    if question is None:
        run(lambda: run_chat(invocation, settings, session))
    else:
        run(lambda: run_once(invocation, settings, session, question))


def _remark(listing: "Listing") -> str:
    """Say what a listing leaves open: that a catalog gave none, or how old a remembered one is."""
    if listing.problem or listing.listed_at_unix is None:
        return listing.problem
    minutes = max(0, int(time.time() - listing.listed_at_unix)) // 60
    if minutes < _RECENT_MINUTES:
        return ""
    number, unit = next(
        (minutes // size, unit) for size, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")) if minutes >= size
    )
    return f"The models of {listing.source} are as they were listed {number} {unit}{'s' if number > 1 else ''} ago."


def _row(status: "ModelStatus") -> dict[str, Any]:
    info = status.info
    fields = {name: getattr(info, name) for name in info.__struct_fields__}
    state = "loaded" if status.loaded else "cached" if status.cached else ""
    return {**fields, "cached": status.cached, "loaded": status.loaded, "state": state}


def _question(prompt: str | None) -> str | None:
    """Return the one prompt to answer, or None when there is somebody to chat with."""
    if prompt is None and sys.stdin.isatty():
        if not sys.stdout.isatty():
            raise click.UsageError("A chat needs a terminal on both ends. Give --prompt TEXT to write one answer.")
        return None
    if prompt not in (None, "-"):
        question = str(prompt)
    else:
        try:
            question = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"What came through stdin is not UTF-8 text (byte {error.start}).") from None
    if not question.strip():
        raise click.UsageError("The prompt is empty. Give --prompt TEXT, or pipe text in.")
    return question


def _ensure_text(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.UsageError("The prompt is not valid UTF-8 text.") from None
