"""`foundry model`: list, info, download, load, unload, run."""

from typing import TYPE_CHECKING

import click

from cupola_server.cli.foundry.errors import FoundryFailure, not_cached
from cupola_server.cli.foundry.help import FoundryGroup
from cupola_server.cli.foundry.service import connect, ready_service, wake_service
from cupola_server.cli.foundry.variants import (
    choose_variant,
    device_option,
    find_variants,
    model_argument,
    model_table,
    ttl_option,
)
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.options import Filter, filter_option, matches_all
from cupola_server.cli.ui.tables import Output, output_option, show_json

if TYPE_CHECKING:
    from cupola.contracts.models import ModelStatus


@click.group(cls=FoundryGroup)
def model() -> None:
    """Discover, run and manage models."""


@model.command("list")
@filter_option
@output_option
@click.pass_obj
def list_models(invocation: Invocation, filters: tuple[Filter, ...], output: Output) -> None:
    """List the models of the catalog."""

    async def listed() -> "list[ModelStatus]":
        async with invocation.engine() as engine:
            return list(await engine.models())

    wake_service(invocation, quiet=output == "json")
    models = run(listed)
    if not models:
        raise FoundryFailure("No models were returned from the Azure Foundry catalog.")
    _show([each for each in models if matches_all(each.info, filters)], output)


model.alias("list", "ls")


@model.command()
@model_argument
@device_option
@click.option("--license", "show_license", is_flag=True, help="Show the license of the model")
@output_option
@click.pass_obj
def info(invocation: Invocation, name: str, device: str, show_license: bool, output: Output) -> None:
    """Show information about a model."""

    async def found() -> "list[ModelStatus]":
        async with invocation.engine() as engine:
            return list(await find_variants(engine, name, device))

    wake_service(invocation, quiet=output == "json")
    models = run(found)
    if show_license and output != "json":
        first = models[0].info
        click.echo(first.license_description or first.license)
    else:
        _show(models, output)


@model.command()
@model_argument
@device_option
@click.option("--force", is_flag=True, help="Download the model again if it is in the local cache")
@click.option("--token", help="Not needed: no catalog here asks for one")
@click.pass_obj
def download(invocation: Invocation, name: str, device: str, force: bool, token: str | None) -> None:
    """Download a model to the local cache."""
    from cupola_server.cli.foundry.download import download_model  # noqa: PLC0415 - imports the engine

    if token:
        raise FoundryFailure("There is no catalog here that takes a token. Leave --token out.")

    async def work() -> None:
        async with invocation.engine() as engine:
            await download_model(engine, await choose_variant(engine, name, device), force=force)

    wake_service(invocation)
    run(work)


@model.command()
@model_argument
@device_option
@ttl_option
@click.pass_obj
def load(invocation: Invocation, name: str, device: str, ttl_s: int) -> None:
    """Load a model into the service."""
    from cupola_server.cli.foundry.remote import load_model  # noqa: PLC0415 - imports httpx

    info = ready_service(invocation)

    async def work() -> None:
        async with invocation.engine() as engine:
            status = await choose_variant(engine, name, device)
        if not status.cached:
            raise not_cached(name)
        async with connect(invocation, info) as service:
            await load_model(service, status.info.id, shown=name, ttl_s=ttl_s, still="🕓 Loading model...")

    run(work)


@model.command()
@model_argument
@device_option
@click.option("--all", "all_variants", is_flag=True, help="Unload all variants of the model")
@click.option("--force", is_flag=True, help="Unload it at once, also while it answers")
@click.pass_obj
def unload(invocation: Invocation, name: str, device: str, all_variants: bool, force: bool) -> None:
    """Unload a model from the service."""
    from cupola_server.cli.foundry.remote import loaded_ids  # noqa: PLC0415 - imports httpx

    info = ready_service(invocation)

    async def work() -> None:
        async with invocation.engine() as engine:
            variants = [status.info.id for status in await find_variants(engine, name, device)]
        async with connect(invocation, info) as service:
            loaded = [model_id for model_id in await loaded_ids(service) if model_id in variants]
            if not loaded:
                raise FoundryFailure(f"Model {name} is not loaded.")
            for model_id in loaded if all_variants else loaded[:1]:
                await service.unload(model_id, force=force)
                click.echo(f"🟢 Model {model_id if all_variants else name} unloaded successfully")

    run(work)


@model.command("run")
@model_argument
@device_option
@ttl_option
@click.option("--prompt", metavar="text", help="Answer this prompt and exit")
@click.option("--retain", type=bool, default=False, metavar="true|false", help="Keep other models loaded")
@click.option("--verbose", is_flag=True, help="Show how long things take")
@click.pass_obj
def run_model(
    invocation: Invocation, name: str, device: str, ttl_s: int, prompt: str | None, retain: bool, verbose: bool
) -> None:
    """Chat with a model, downloading and loading it if needed."""
    from cupola_server.cli.foundry.run import Run  # noqa: PLC0415 - imports httpx

    info = ready_service(invocation)
    run(lambda: Run(name, device, ttl_s, prompt=prompt, retain=retain, verbose=verbose).work(invocation, info))


def _show(models: "list[ModelStatus]", output: Output) -> None:
    if output == "json":
        show_json([_fields(each) for each in models])
    else:
        click.echo(model_table([status.info for status in models]))


def _fields(status: "ModelStatus") -> dict[str, object]:
    info = status.info
    fields = {name: getattr(info, name) for name in info.__struct_fields__}
    return {**fields, "cached": status.cached, "loaded": status.loaded}
