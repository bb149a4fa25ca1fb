"""`cupola plugins`: the plugins, what they contribute, and which failed."""

from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.app import conflicting_commands, describe_conflict
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.ui.tables import Column, Output, output_option, show_json, show_rows

if TYPE_CHECKING:
    from cupola.plugins import PluginSet

_COLUMNS = (
    Column("name", "Plugin"),
    Column("distribution", "Distribution"),
    Column(
        "contributes",
        "Contributes",
        lambda kinds: "; ".join(f"{kind}: {', '.join(kinds[kind])}" for kind in kinds),
        long=True,
    ),
)
_FAILURE_COLUMNS = (
    Column("plugin", "Failed"),
    Column("distribution", "Distribution"),
    Column("stage", "At"),
    Column("error", "Reason", long=True),
)


@click.command(short_help="List the plugins and those that failed.")
@output_option
@click.pass_obj
def plugins(invocation: Invocation, output: Output) -> None:
    """List the plugins, what they contribute, and the failures with their reasons."""
    plugin_set = invocation.plugins()
    plugin_set.frontends()  # creates them, so that they and their failures are listed
    records = [
        {
            "name": record.name,
            "distribution": record.distribution,
            "reference": record.reference,
            "contributes": dict(record.contributes),
        }
        for record in plugin_set.records
    ]
    failures = _failures(plugin_set)
    if output == "json":
        show_json({"plugins": records, "failures": failures})
    else:
        show_rows(records, _COLUMNS, output=output, empty="No plugins are in use.")
        if failures:
            click.echo()
            show_rows(failures, _FAILURE_COLUMNS, output=output, empty="")
    plugin_set.ensure_usable()
    if failures and invocation.settings().plugins.strict:
        raise click.exceptions.Exit(1)


def _failures(plugin_set: "PluginSet") -> list[dict[str, Any]]:
    failures = [
        {
            "plugin": failure.plugin,
            "distribution": failure.distribution,
            "stage": failure.stage,
            "error": failure.error,
        }
        for failure in plugin_set.failures
    ]
    for name in conflicting_commands(plugin_set):
        owners = [record for record in plugin_set.records if name in record.contributes.get("command", ())]
        for owner in owners:
            message = describe_conflict(name)
            failures.append(
                {"plugin": owner.name, "distribution": owner.distribution, "stage": "cli_commands", "error": message}
            )
    return failures
