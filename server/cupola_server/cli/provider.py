"""`cupola provider`: list, install and remove execution providers."""

import sys
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.options import ListingGroup
from cupola_server.cli.ui.tables import Column, Output, output_option, show_rows

if TYPE_CHECKING:
    from cupola.environments import Diagnosis
    from cupola.plugins import PluginSet, ProviderEntry

_COLUMNS = (
    Column("alias", "Provider"),
    Column("status", "Status"),
    Column(
        "devices",
        "Devices",
        lambda devices: ", ".join(f"{device['type']} {device['name']}".strip() for device in devices),
    ),
    Column("remedy", "To use it", long=True),
)


@click.group(cls=ListingGroup)
def provider() -> None:
    """Manage execution providers."""


@provider.command("list")
@output_option
@click.pass_obj
def list_providers(invocation: Invocation, output: Output) -> None:
    """List the execution providers, installed or not.

    The list is from the last check; `cupola doctor` checks again.
    """
    from cupola.environments import Inventory, diagnose  # noqa: PLC0415 - not needed to show help

    settings = invocation.settings()
    inventory = Inventory(invocation.usable_plugins(settings).providers, settings)
    rows = [_row(diagnose(inventory, entry)) for entry in inventory.providers]
    show_rows(rows, _COLUMNS, output=output, empty="No plugin provides an execution provider. See `cupola plugins`.")


@provider.command()
@click.argument("name")
@click.pass_obj
def install(invocation: Invocation, name: str) -> None:
    """Install the packages of the execution provider NAME.

    They are installed with pip, which uses your pip settings, into a separate environment. It is kept only if the
    provider works in it.
    """
    from cupola.environments import Inventory, diagnose  # noqa: PLC0415
    from cupola.environments import install as install_environment  # noqa: PLC0415

    settings = invocation.settings()
    entry = _find_provider(invocation.usable_plugins(settings), name)
    inventory = Inventory([entry], settings)

    async def work() -> "Diagnosis":
        await install_environment(entry, settings, output=sys.stderr.fileno())
        await inventory.refresh()
        return diagnose(inventory, entry)

    diagnosis = run(work)
    environment = inventory.environment(entry)
    click.echo(f"{diagnosis.alias} is installed: {environment.path if environment else ''}")
    for device in diagnosis.devices:
        click.echo(f"  {device.type} {device.name}".rstrip())
    if diagnosis.problem:
        click.echo(f"It cannot be used yet: {' '.join((diagnosis.problem, diagnosis.remedy)).strip()}", err=True)


@provider.command()
@click.argument("name")
@click.pass_obj
def remove(invocation: Invocation, name: str) -> None:
    """Delete the environment of the execution provider NAME."""
    from cupola.environments import Environments  # noqa: PLC0415

    settings = invocation.settings()
    environments = Environments(settings.environments_dir)
    if name not in environments.names():
        name = _find_provider(invocation.usable_plugins(settings), name).provider.alias
    if not environments.remove(name):
        raise click.ClickException(f"{name!r} is not installed. Run `cupola provider list` to see what is.")
    click.echo(f"{name} was removed.")


def _row(diagnosis: "Diagnosis") -> dict[str, Any]:
    return {**structs.asdict(diagnosis), "devices": [structs.asdict(device) for device in diagnosis.devices]}


def _find_provider(plugins: "PluginSet", name: str) -> "ProviderEntry":
    for entry in plugins.providers:
        if name.lower() in (entry.provider.alias, entry.provider.name.lower()):
            return entry
    known = ", ".join(entry.provider.alias for entry in plugins.providers)
    raise click.ClickException(f"Unknown execution provider {name!r}. Available: {known or 'none'}.")
