"""The group, which imports a command when it is needed."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

import click

_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "start": "starting:start",
        "stop": "starting:stop",
        "restart": "starting:restart",
        "status": "status:status",
        "ps": "loaded:ps",
        "list": "loaded:ps",
        "set": "setting:set_",
        "diag": "diagnosis:diag",
        "install": "installing:install",
    }
)


class ServiceGroup(click.Group):
    """Finds its commands by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands; "list" is another word for "ps"."""
        return [name for name in _COMMANDS if name != "list"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Find a command by its name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"cupola_server.cli.service.{module}"), attribute)
        return command


@click.command("service", cls=ServiceGroup)
def service() -> None:
    """Manage the local model inference service."""
