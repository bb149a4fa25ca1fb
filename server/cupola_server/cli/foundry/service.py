"""`foundry service`: the commands that `cupola` has as well, with the original's help and words of misuse."""

import click

from cupola_server.cli.foundry.layout import FoundryCommand, FoundryGroup
from cupola_server.cli.service import service as shared


class FoundryServiceGroup(FoundryGroup):
    """Dresses the shared commands when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return shared.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by its name."""
        command = shared.get_command(ctx, cmd_name)
        if command is None:
            return None
        return FoundryCommand(command.name, callback=command.callback, params=command.params, help=command.help)


@click.command("service", cls=FoundryServiceGroup)
def service() -> None:
    """Manage the local model inference service."""
