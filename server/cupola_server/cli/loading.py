"""`cupola model load` and `unload`, by the background service."""

from typing import TYPE_CHECKING

import click

from cupola_server.cli.completing import model_names
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.placing import placement_options
from cupola_server.cli.tables import size_text

if TYPE_CHECKING:
    from cupola.contracts import DeviceType


@click.command(short_help="Load MODEL into the background service.")
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.option("--ttl", "ttl_s", type=click.FloatRange(min=0), help="Idle seconds until it is unloaded; 0 for never.")
@placement_options
@click.pass_obj
def load(
    invocation: Invocation, name: str, ttl_s: float | None, provider: str | None, device: "DeviceType | None"
) -> None:
    """Load MODEL into the background service, which is started if need be."""
    from cupola.client import Client  # noqa: PLC0415 - brings httpx

    settings = invocation.settings()
    with Client(settings, overrides=invocation.overrides, config=invocation.config) as client:
        model = client.load_model(name, device, ttl_s, provider=provider)
    idle = f"unloads after {model.ttl_s:g} idle seconds" if model.ttl_s else "stays loaded"
    click.echo(f"{model.id} is loaded ({size_text(model.memory_bytes)}) and {idle}.")


@click.command()
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.option("--force", is_flag=True, help="End its running answers; otherwise they are waited for.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), help="Longest wait for running answers, in seconds.")
@click.pass_obj
def unload(invocation: Invocation, name: str, force: bool, wait_s: float | None) -> None:
    """Unload MODEL, which gives its memory back."""
    from cupola.discovery import find_service  # noqa: PLC0415

    settings = invocation.settings()
    info = find_service(settings)

    async def work() -> bool:
        from cupola_server.cli.remote import open_service  # noqa: PLC0415 - brings httpx

        if info is None:
            return False
        async with open_service(info, settings) as service:
            return await service.unload(name, force=force, wait_s=wait_s)

    if run(work):
        click.echo(f"{name} is unloaded.")
    else:
        click.echo(f"{name} was not loaded{'' if info else '; no service is running'}.")
