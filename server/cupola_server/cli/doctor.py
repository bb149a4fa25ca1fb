"""`cupola doctor`: what this machine can run models on, and what is in the way of the rest."""

from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Column, Output, output_option, show_json, show_rows, size_text

if TYPE_CHECKING:
    from cupola.doctor import MachineReport
    from cupola.environments import Diagnosis
    from cupola.plugins import PluginFailure

_SAID_BY_STATUS = ("not installed", "not for this machine")
_PROVIDER_COLUMNS = (
    Column("alias", "Provider"),
    Column("status", "Status"),
    Column("found", "Found", long=True),
    Column("models", "Models", right=True),
    Column("remedy", "What mends it", long=True),
)


@click.command(short_help="Say what can be used here, and what mends it.")
@output_option
@click.pass_obj
def doctor(invocation: Invocation, output: Output) -> None:
    """Say of every execution provider whether it can be used here, and if not, why and what mends it."""
    from cupola.doctor import inspect_machine  # noqa: PLC0415 - not needed to show help

    settings = invocation.settings()
    plugins = invocation.plugins(settings)
    plugins.ensure_usable()

    async def work() -> "MachineReport":
        async with invocation.engine(settings, plugins) as engine:
            return await inspect_machine(engine)

    found = run(work)
    if output == "json":
        failures = [{"plugin": each.plugin, "stage": each.stage, "error": each.error} for each in plugins.failures]
        show_json({**structs.asdict(found), "plugin_failures": failures})
    else:
        _show(found, plugins.failures)


def _show(found: "MachineReport", failures: "list[PluginFailure]") -> None:
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    memory = f"{size_text(found.memory_available_bytes)} free of {size_text(found.memory_bytes)}"
    lines = [
        ("System", found.system),
        ("Versions", versions),
        ("Processor", f"{found.cores} cores, {found.threads} threads"),
        ("Memory", memory),
        *((disk.use, f"{disk.path} ({size_text(disk.free_bytes)} free)") for disk in found.disks),
    ]
    width = max(len(title) for title, _ in lines)
    for title, text in lines:
        click.echo(f"{title:<{width}}  {text}")
    click.echo()
    rows: list[dict[str, Any]] = [
        {
            "alias": each.alias,
            "status": each.status,
            "found": _found(each),
            "models": len(found.models.get(each.name, ())) or "",
            "remedy": each.remedy,
        }
        for each in found.providers
    ]
    show_rows(rows, _PROVIDER_COLUMNS, output="table", empty="No plugin brings an execution provider.")
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    for failure in failures:
        click.echo(f"Warning: the plugin {failure.plugin} failed at {failure.stage}: {failure.error}", err=True)


def _found(diagnosis: "Diagnosis") -> str:
    if diagnosis.status in _SAID_BY_STATUS:
        return ""
    return diagnosis.problem or ", ".join(f"{device.type} {device.name}".strip() for device in diagnosis.devices)
