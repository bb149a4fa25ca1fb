"""`cupola provider`: list, install, remove what runs models."""

import sys
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.listing_group import ListingGroup
from cupola_server.cli.tables import Column, Output, output_option, show_rows

if TYPE_CHECKING:
    from cupola.environments import Diagnosis
    from cupola.plugins import PluginSet, ProviderEntry

_COLUMNS = (
    Column("alias", "Provider"),
    Column("status", "Status"),
    Column(
        "devices", "Devices", lambda devices: ", ".join(f"{each['type']} {each['name']}".strip() for each in devices)
    ),
    Column("remedy", "To use it", long=True),
)


@click.group(cls=ListingGroup)
def provider() -> None:
    """Manage the execution providers of this machine."""


@provider.command("list")
@output_option
@click.pass_obj
def list_providers(invocation: Invocation, output: Output) -> None:
    """Show the execution providers, what is installed and what can be.

    It shows what is known; `cupola doctor` asks each provider anew.
    """
    from cupola.environments import Inventory, diagnose  # noqa: PLC0415 - not needed to show help

    settings = invocation.settings()
    inventory = Inventory(invocation.usable_plugins(settings).providers, settings)
    rows = [row_of(diagnose(inventory, entry)) for entry in inventory.providers]
    show_rows(rows, _COLUMNS, output=output, empty="No plugin brings an execution provider. `cupola plugins` says why.")


@provider.command()
@click.argument("name")
@click.pass_obj
def install(invocation: Invocation, name: str) -> None:
    """Install what the provider NAME needs on this machine.

    Its packages go into an environment of their own, by pip with your settings. It is kept if the provider runs in it.
    """
    from cupola.environments import Inventory, diagnose  # noqa: PLC0415
    from cupola.environments import install as install_environment  # noqa: PLC0415

    settings = invocation.settings()
    entry = _named(invocation.usable_plugins(settings), name)
    inventory = Inventory([entry], settings)

    async def work() -> "Diagnosis":
        await install_environment(entry, settings, output=sys.stderr.fileno())
        await inventory.refresh()
        return diagnose(inventory, entry)

    found = run(work)
    where = inventory.environment(entry)
    click.echo(f"{found.alias} is installed: {where.path if where else ''}")
    for device in found.devices:
        click.echo(f"  {device.type} {device.name}".rstrip())
    if found.problem:
        click.echo(f"It is not usable yet: {' '.join((found.problem, found.remedy)).strip()}", err=True)


@provider.command()
@click.argument("name")
@click.pass_obj
def remove(invocation: Invocation, name: str) -> None:
    """Delete the environment of the provider NAME."""
    from cupola.environments import Environments  # noqa: PLC0415

    settings = invocation.settings()
    environments = Environments(settings.environments_dir)
    if name not in environments.names():
        name = _named(invocation.usable_plugins(settings), name).provider.alias
    if not environments.remove(name):
        raise click.ClickException(f"{name!r} is not installed. `cupola provider list` shows what is.")
    click.echo(f"{name} is removed.")


def row_of(found: "Diagnosis") -> dict[str, Any]:
    """Return what JSON shows of a provider."""
    return {**structs.asdict(found), "devices": [structs.asdict(device) for device in found.devices]}


def _named(plugins: "PluginSet", name: str) -> "ProviderEntry":
    for entry in plugins.providers:
        if name.lower() in (entry.provider.alias, entry.provider.name.lower()):
            return entry
    known = ", ".join(entry.provider.alias for entry in plugins.providers)
    raise click.ClickException(f"There is no execution provider {name!r}; there are: {known or 'none'}.")
