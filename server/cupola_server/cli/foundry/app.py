"""The `foundry` program: its help, its options and its command groups."""

import importlib
from collections.abc import Mapping
from importlib.metadata import files, version
from types import MappingProxyType
from typing import Any

import click

from cupola_server.cli.foundry.help import FoundryGroup
from cupola_server.cli.invocation import Invocation

COMPATIBLE_WITH = "0.8.119"  # the last release of Foundry Local's own command line

_GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "model": "cupola_server.cli.foundry.model:model",
        "cache": "cupola_server.cli.foundry.cache:cache",
        "service": "cupola_server.cli.foundry.service:service",
        "zip-logs": "cupola_server.cli.foundry.service:zip_logs",
    }
)


_HELP = """\
Foundry Local CLI: Run AI models on your device.

🚀 Getting started:

   1. To view available models: foundry model list
   2. To run a model: foundry model run <model>

   EXAMPLES:
       foundry model run phi-3-mini-4k"""


class FoundryRoot(FoundryGroup):
    """The program. It imports a command group when it is used."""

    def list_commands(self, _: click.Context) -> list[str]:
        """List the command groups."""
        return list(_GROUPS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command group; None if there is no such group."""
        target = _GROUPS.get(cmd_name)
        if target is None:
            return None
        module, attribute = target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exceptions become a message and an exit code."""
        from cupola_server.cli.foundry.errors import report_errors  # noqa: PLC0415 - not needed for help

        ctx.obj = Invocation()
        with report_errors(ctx):
            return super().invoke(ctx)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the compatible release, with Cupola's version as build metadata."""
    if wanted:
        click.echo(f"{COMPATIBLE_WITH}+cupola.{version('cupola')}")
        ctx.exit()


def _show_license(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        found = next((file for file in files("cupola") or () if file.name == "LICENSE"), None)
        text = found.read_text("utf-8") if found else "Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0"
        click.echo(text.strip())
        ctx.exit()


@click.command(cls=FoundryRoot, help=_HELP)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show version information",
)
@click.option(
    "--license",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_license,
    help="Display foundry license information",
)
def foundry() -> None:
    """Run a command. The help text is the original's."""
