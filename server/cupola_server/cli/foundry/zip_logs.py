"""`foundry zip-logs`, for those who are asked for it in a report."""

import time
from pathlib import Path

import click

from cupola_server.cli.foundry.layout import FoundryCommand
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.zip_logs import write_logs


@click.command("zip-logs", cls=FoundryCommand, hidden=True)
@click.pass_obj
def zip_logs(invocation: Invocation) -> None:
    """Collect the logs in a zip file."""
    path = Path(time.strftime("foundry-logs-%Y%m%d-%H%M%S.zip"))
    write_logs(invocation, path)
    click.echo(f"Logs collected in {path.absolute()}")
