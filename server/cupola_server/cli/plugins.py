"""`cupola plugins`: what is plugged in, what it brings, and what failed."""

from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.app import clash_sentence, clashes
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.tables import Column, Output, output_option, show_json, show_rows

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


@click.command(short_help="Show what is plugged in and what failed.")
@output_option
@click.pass_obj
def plugins(invocation: Invocation, output: Output) -> None:
    """Show every plugin, what it contributes, and every failure with its reason."""
    found = invocation.plugins()
    found.frontends()  # so that they are listed, and their failures
    records = [
        {
            "name": record.name,
            "distribution": record.distribution,
            "reference": record.reference,
            "contributes": dict(record.contributes),
        }
        for record in found.records
    ]
    failures = _failures(found)
    if output == "json":
        show_json({"plugins": records, "failures": failures})
    else:
        show_rows(records, _COLUMNS, output=output, empty="No plugin is in use.")
        if failures:
            click.echo()
            show_rows(failures, _FAILURE_COLUMNS, output=output, empty="")
    found.ensure_usable()
    if failures and invocation.settings().plugins.strict:
        raise click.exceptions.Exit(1)


def _failures(found: "PluginSet") -> list[dict[str, Any]]:
    failures = [
        {
            "plugin": failure.plugin,
            "distribution": failure.distribution,
            "stage": failure.stage,
            "error": failure.error,
        }
        for failure in found.failures
    ]
    for name in clashes(found):
        owners = [record for record in found.records if name in record.contributes.get("command", ())]
        for owner in owners:
            sentence = clash_sentence(name)
            failures.append(
                {"plugin": owner.name, "distribution": owner.distribution, "stage": "cli_commands", "error": sentence}
            )
    return failures
