"""`service ps`: what is loaded, as Foundry Local lists it."""

import click
import msgspec

from cupola_server.cli.invocation import Invocation
from cupola_server.cli.tables import Output, output_option, show_json


@click.command()
@output_option
@click.pass_obj
def ps(invocation: Invocation, output: Output) -> None:
    """Show the models that are loaded in the service."""
    from cupola.client import Client  # noqa: PLC0415 - brings httpx, which most commands do without

    with Client(invocation.settings(), start=False) as client:
        models = client.list_loaded_models()
    if output == "json":
        show_json(msgspec.to_builtins(models))
    elif not models:
        click.echo("No models are currently loaded in the service")
    else:
        click.echo("Models running in service:")
        click.echo(f"    {'Alias':<31}Model ID")
        for model in models:
            click.echo(f"🟢  {model.alias:<31}{model.id}")
