"""`foundry model`: list, info, download, load, unload, run."""

from typing import TYPE_CHECKING

import click

from cupola_server.cli.filters import Filter, admitted, filter_option
from cupola_server.cli.foundry import naming
from cupola_server.cli.foundry.failing import FoundryFailure
from cupola_server.cli.foundry.layout import FoundryGroup
from cupola_server.cli.foundry.listing import model_table
from cupola_server.cli.foundry.naming import device_option, model_argument
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Output, output_option, show_json

if TYPE_CHECKING:
    from cupola.contracts.models import ModelInfo, ModelStatus


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

    models = run(listed)
    if not models:
        raise FoundryFailure("No models were returned from the Azure Foundry catalog.")
    _show([each for each in models if admitted(each.info, filters)], output)


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
            return list(await naming.variants(engine, name, device))

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
    from cupola_server.cli.foundry.fetching import fetched  # noqa: PLC0415

    if token:
        raise FoundryFailure("There is no catalog here that takes a token. Leave --token out.")

    async def bring() -> "ModelInfo":
        async with invocation.engine() as engine:
            status = await naming.chosen(engine, name, device)
            await fetched(engine, status, force=force)
            return status.info

    run(bring)


def _show(models: "list[ModelStatus]", output: Output) -> None:
    if output == "json":
        show_json([_fields(each) for each in models])
    else:
        click.echo(model_table(naming.infos(models)))


def _fields(status: "ModelStatus") -> dict[str, object]:
    info = status.info
    fields = {name: getattr(info, name) for name in info.__struct_fields__}
    return {**fields, "cached": status.cached, "loaded": status.loaded}
