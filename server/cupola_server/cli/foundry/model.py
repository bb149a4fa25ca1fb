"""`foundry model`: list, info, download, load, unload, run."""

from typing import TYPE_CHECKING

import click

from cupola_server.cli.filters import Filter, admitted, filter_option
from cupola_server.cli.foundry import naming
from cupola_server.cli.foundry.failing import FoundryFailure, not_cached
from cupola_server.cli.foundry.layout import FoundryGroup
from cupola_server.cli.foundry.listing import model_table
from cupola_server.cli.foundry.naming import device_option, model_argument, ttl_option
from cupola_server.cli.foundry.starting import ready_service, service, wake_service
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Output, output_option, show_json

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
    from cupola_server.cli.foundry.fetching import fetched  # noqa: PLC0415

    if token:
        raise FoundryFailure("There is no catalog here that takes a token. Leave --token out.")

    async def bring() -> None:
        async with invocation.engine() as engine:
            await fetched(engine, await naming.chosen(engine, name, device), force=force)

    wake_service(invocation)
    run(bring)


@model.command()
@model_argument
@device_option
@ttl_option
@click.pass_obj
def load(invocation: Invocation, name: str, device: str, ttl_s: int) -> None:
    """Load a model into the service."""
    from cupola_server.cli.foundry import loading  # noqa: PLC0415 - brings httpx

    info = ready_service(invocation)

    async def work() -> None:
        async with invocation.engine() as engine:
            status = await naming.chosen(engine, name, device)
        if not status.cached:
            raise not_cached(name)
        async with service(invocation, info) as remote:
            await loading.load(remote, status.info.id, shown=name, ttl_s=ttl_s, still="🕓 Loading model...")

    run(work)


@model.command()
@model_argument
@device_option
@click.option("--all", "all_variants", is_flag=True, help="Unload all variants of the model")
@click.option("--force", is_flag=True, help="Unload it at once, also while it answers")
@click.pass_obj
def unload(invocation: Invocation, name: str, device: str, all_variants: bool, force: bool) -> None:
    """Unload a model from the service."""
    from cupola_server.cli.foundry import loading  # noqa: PLC0415 - brings httpx

    info = ready_service(invocation)

    async def work() -> None:
        async with invocation.engine() as engine:
            variants = [each.id for each in naming.infos(await naming.variants(engine, name, device))]
        async with service(invocation, info) as remote:
            loaded = [each for each in await loading.loaded(remote) if each in variants]
            if not loaded:
                raise FoundryFailure(f"Model {name} is not loaded.")
            for each in loaded if all_variants else loaded[:1]:
                await remote.unload(each, force=force)
                click.echo(f"🟢 Model {each if all_variants else name} unloaded successfully")

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
    from cupola_server.cli.foundry.running import Run  # noqa: PLC0415 - brings httpx

    info = ready_service(invocation)
    run(lambda: Run(name, device, ttl_s, prompt=prompt, retain=retain, verbose=verbose).work(invocation, info))


def _show(models: "list[ModelStatus]", output: Output) -> None:
    if output == "json":
        show_json([_fields(each) for each in models])
    else:
        click.echo(model_table(naming.infos(models)))


def _fields(status: "ModelStatus") -> dict[str, object]:
    info = status.info
    fields = {name: getattr(info, name) for name in info.__struct_fields__}
    return {**fields, "cached": status.cached, "loaded": status.loaded}
