"""`cupola model`: list, info, download, run, load, unload, add and import; `tune` is in a module of its own."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.options import (
    Filter,
    ListingGroup,
    complete_model_name,
    filter_option,
    matches_all,
    placement_options,
    placement_overrides,
)
from cupola_server.cli.tune import tune
from cupola_server.cli.ui.tables import Column, Output, format_bytes, output_option, show_fields, show_rows

if TYPE_CHECKING:
    from cupola.contracts import DeviceType, ImportOptions, ModelStatus
    from cupola.model_index import Listing

_COLUMNS = (
    Column("alias", "Alias"),
    Column("device", "Device"),
    Column("task", "Task", lambda task: task.removesuffix("-completion")),
    Column("size_bytes", "Size", format_bytes, right=True),
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
_RECENT_MINUTES = 5  # younger listings are shown without their age

_path_argument = click.argument("path", type=click.Path(path_type=Path, exists=True))
_name_option = click.option(
    "--name", default="", help="The model's id, without the device. NAME:VERSION sets the version."
)
_alias_option = click.option("--alias", default="", help="The model's alias; by default its name.")


@click.group(cls=ListingGroup)
def model() -> None:
    """Find, download and run models."""


@model.command("list", short_help="List the models of all catalogs.")
@filter_option
@output_option
@click.pass_obj
def list_models(invocation: Invocation, filters: "Sequence[Filter]", output: Output) -> None:
    """List the models of all catalogs, or those that match the filters."""

    async def models() -> "tuple[Sequence[ModelStatus], Sequence[Listing]]":
        async with invocation.engine() as engine:
            return await engine.models(), engine.listings()

    statuses, listings = run(models)
    rows = [_row(status) for status in statuses if matches_all(status.info, filters)]
    empty = "No catalog lists a model. Run `cupola plugins` to see the catalogs."
    if statuses:
        empty = f"None of the {len(statuses)} models matches the filters."
    show_rows(rows, _COLUMNS, output=output, empty=empty)
    for listing in listings:
        if remark := _describe_listing(listing):
            click.echo(remark, err=True)


@model.command()
@click.argument("name", metavar="MODEL", shell_complete=complete_model_name)
@output_option
@click.pass_obj
def info(invocation: Invocation, name: str, output: Output) -> None:
    """Show the details of MODEL."""

    async def details() -> dict[str, Any]:
        async with invocation.engine() as engine:
            status = await engine.resolve(name)
            paths = {cached.info.id: str(cached.path) for cached in await engine.cached()}
            return {**_row(status), "path": paths.get(status.info.id, "")}

    show_fields(run(details), _FIELDS, output=output)


@model.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete_model_name)
@placement_options
@click.pass_obj
def download(invocation: Invocation, name: str | None, provider: str | None, device: str | None) -> None:
    """Download the variant of MODEL that runs best on this machine.

    The default MODEL is the setting models.default.
    """
    from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

    async def work() -> str:
        settings = invocation.settings(*placement_overrides(provider, device))
        model_name = name or settings.models.default
        async with invocation.engine(settings) as engine:
            status = await engine.resolve(model_name)
            with show_progress(status.info.alias) as progress:
                cached = await engine.download(model_name, progress)
        if status.cached:
            return f"{cached.info.id} is already downloaded: {cached.path}"
        return f"{cached.info.id} was downloaded ({format_bytes(cached.size_bytes)}): {cached.path}"

    click.echo(run(work))


@model.command("run", short_help="Chat with MODEL, or answer one prompt.")
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=complete_model_name)
@click.option("--prompt", help="Answer this prompt and exit; - reads it from stdin.")
@click.option("--system", default="", help="System message.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Maximum length of an answer in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="Sampling temperature; 0 is greedy.")
@click.option("--seed", type=int, help="Random seed, for reproducible answers.")
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

    The default MODEL is the setting models.default. If stdin is a pipe and there is no --prompt, the prompt is read
    from the pipe.
    """
    from cupola.messages import Sampling  # noqa: PLC0415
    from cupola_server.cli.chat import ChatSession, run_chat, run_once  # noqa: PLC0415

    single_prompt = _read_prompt(prompt)
    _check_unicode(single_prompt or "", system)
    settings = invocation.settings(*placement_overrides(provider, device))
    session = ChatSession(
        name or settings.models.default,
        system=system,
        sampling=Sampling(temperature=temperature, seed=seed),
        max_tokens=max_tokens,
    )
    if single_prompt is None:
        run(lambda: run_chat(invocation, settings, session))
    else:
        run(lambda: run_once(invocation, settings, session, single_prompt))


@model.command(short_help="Load MODEL into the background service.")
@click.argument("name", metavar="MODEL", shell_complete=complete_model_name)
@click.option("--ttl", "ttl_s", type=click.FloatRange(min=0), help="Idle seconds before it is unloaded; 0 for never.")
@placement_options
@click.pass_obj
def load(
    invocation: Invocation, name: str, ttl_s: float | None, provider: str | None, device: "DeviceType | None"
) -> None:
    """Load MODEL into the background service, which is started if needed."""
    from cupola.client import Client  # noqa: PLC0415 - imports httpx

    settings = invocation.settings()
    with Client(settings, overrides=invocation.overrides, config=invocation.config) as client:
        loaded = client.load_model(name, device, ttl_s, provider=provider)
    idle = f"unloads after {loaded.ttl_s:g} idle seconds" if loaded.ttl_s else "stays loaded"
    click.echo(f"{loaded.id} is loaded ({format_bytes(loaded.memory_bytes)}) and {idle}.")


@model.command()
@click.argument("name", metavar="MODEL", shell_complete=complete_model_name)
@click.option("--force", is_flag=True, help="Stop its running answers instead of waiting for them.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), help="Maximum seconds to wait for running answers.")
@click.pass_obj
def unload(invocation: Invocation, name: str, force: bool, wait_s: float | None) -> None:
    """Unload MODEL and free its memory."""
    from cupola.discovery import find_service  # noqa: PLC0415

    settings = invocation.settings()
    service_info = find_service(settings)

    async def work() -> bool:
        from cupola_server.cli.remote import open_service  # noqa: PLC0415 - imports httpx

        if service_info is None:
            return False
        async with open_service(service_info, settings) as service:
            return await service.unload(name, force=force, wait_s=wait_s)

    if run(work):
        click.echo(f"{name} was unloaded.")
    else:
        click.echo(f"{name} was not loaded{'' if service_info else '; no service is running'}.")


@model.command(short_help="Add a model folder from disk.")
@_path_argument
@_name_option
@_alias_option
@click.pass_obj
def add(invocation: Invocation, path: Path, name: str, alias: str) -> None:
    """Add the folder PATH, which contains a genai_config.json, as a model.

    Its files are hard-linked into the cache if the file system allows it, otherwise copied. PATH may be a folder in
    the cache of Hugging Face.
    """
    from cupola.contracts import ImportOptions  # noqa: PLC0415

    _import(invocation, path, ImportOptions(name=name, alias=alias, link=True))


@model.command("import", short_help="Import a GGUF file or a copy of a folder.")
@_path_argument
@_name_option
@_alias_option
@click.option("--layout", default="", help="Weight layout for a GGUF file: int8-rows, int8-blocks or int4-blocks.")
@click.pass_obj
def import_(invocation: Invocation, path: Path, name: str, alias: str, layout: str) -> None:
    """Convert a GGUF file, or copy a folder with a genai_config.json, into the cache."""
    from cupola.contracts import ImportOptions  # noqa: PLC0415

    _import(invocation, path, ImportOptions(name=name, alias=alias, layout=layout))


model.add_command(tune)


def _import(invocation: Invocation, path: Path, options: "ImportOptions") -> None:
    from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

    async def work() -> str:
        async with invocation.engine() as engine:
            with show_progress(options.alias or options.name or path.name) as progress:
                cached = await engine.import_model(path, options, progress)
        return (
            f"{cached.info.id} is in the cache ({format_bytes(cached.size_bytes)}): {cached.path}\n"
            f"Chat with it: cupola model run {cached.info.alias}"
        )

    click.echo(run(work))


def _describe_listing(listing: "Listing") -> str:
    """Return why a catalog could not be listed, or how old its stored listing is; empty for a recent listing."""
    if listing.problem or listing.listed_at_unix is None:
        return listing.problem
    minutes = max(0, int(time.time() - listing.listed_at_unix)) // 60
    if minutes < _RECENT_MINUTES:
        return ""
    number, unit = next(
        (minutes // size, unit) for size, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")) if minutes >= size
    )
    return f"The listing of {listing.source} is {number} {unit}{'s' if number > 1 else ''} old."


def _row(status: "ModelStatus") -> dict[str, Any]:
    info = status.info
    fields = {name: getattr(info, name) for name in info.__struct_fields__}
    state = "loaded" if status.loaded else "cached" if status.cached else ""
    return {**fields, "cached": status.cached, "loaded": status.loaded, "state": state}


def _read_prompt(option: str | None) -> str | None:
    """Return the prompt to answer from --prompt or stdin; None to chat at the terminal."""
    if option is None and sys.stdin.isatty():
        if not sys.stdout.isatty():
            raise click.UsageError("A chat needs a terminal for input and output. Use --prompt TEXT for one answer.")
        return None
    if option not in (None, "-"):
        prompt = str(option)
    else:
        try:
            prompt = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"The prompt from stdin is not valid UTF-8 (byte {error.start}).") from None
    if not prompt.strip():
        raise click.UsageError("The prompt is empty. Use --prompt TEXT, or pipe text to stdin.")
    return prompt


def _check_unicode(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.UsageError("The prompt is not valid UTF-8 text.") from None
