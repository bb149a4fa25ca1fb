"""`cupola doctor`: which execution providers this machine can use, and how to make the others available."""

from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.ui.tables import Column, Output, format_bytes, output_option, show_json, show_rows

if TYPE_CHECKING:
    from cupola.doctor import MachineReport
    from cupola.environments import Diagnosis
    from cupola.plugins import PluginFailure

_SELF_EXPLANATORY = ("not installed", "not for this machine")
_PROVIDER_COLUMNS = (
    Column("alias", "Provider"),
    Column("status", "Status"),
    Column("found", "Found", long=True),
    Column("models", "Models", right=True),
    Column("remedy", "Remedy", long=True),
)


@click.command(short_help="Check this machine and its execution providers.")
@output_option
@click.pass_obj
def doctor(invocation: Invocation, output: Output) -> None:
    """Check which execution providers can be used on this machine, and how to make the others available."""
    from cupola.doctor import inspect_machine  # noqa: PLC0415 - not needed to show help

    settings = invocation.settings()
    plugins = invocation.plugins(settings)
    plugins.ensure_usable()

    async def work() -> "MachineReport":
        async with invocation.engine(settings, plugins) as engine:
            return await inspect_machine(engine)

    report = run(work)
    if output == "json":
        failures = [
            {"plugin": failure.plugin, "stage": failure.stage, "error": failure.error} for failure in plugins.failures
        ]
        show_json({**structs.asdict(report), "plugin_failures": failures})
    else:
        _show(report, plugins.failures)


def _show(report: "MachineReport", failures: "list[PluginFailure]") -> None:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    memory = f"{format_bytes(report.memory_available_bytes)} free of {format_bytes(report.memory_bytes)}"
    lines = [
        ("System", report.system),
        ("Versions", versions),
        ("Processor", f"{report.cores} cores, {report.threads} threads"),
        ("Memory", memory),
        *((disk.use, f"{disk.path} ({format_bytes(disk.free_bytes)} free)") for disk in report.disks),
    ]
    width = max(len(title) for title, _ in lines)
    for title, text in lines:
        click.echo(f"{title:<{width}}  {text}")
    click.echo()
    rows: list[dict[str, Any]] = [
        {
            "alias": diagnosis.alias,
            "status": diagnosis.status,
            "found": _describe_devices(diagnosis),
            "models": len(report.models.get(diagnosis.name, ())) or "",
            "remedy": diagnosis.remedy,
        }
        for diagnosis in report.providers
    ]
    show_rows(rows, _PROVIDER_COLUMNS, output="table", empty="No plugin provides an execution provider.")
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    for failure in failures:
        click.echo(f"Warning: the plugin {failure.plugin} failed at {failure.stage}: {failure.error}", err=True)


def _describe_devices(diagnosis: "Diagnosis") -> str:
    if diagnosis.status in _SELF_EXPLANATORY:
        return ""
    return diagnosis.problem or ", ".join(f"{device.type} {device.name}".strip() for device in diagnosis.devices)
