"""The root command `cupola`: its global options, the built-in commands, and the commands of plugins."""

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from cupola_server.cli.invocation import Invocation

if TYPE_CHECKING:
    from cupola.plugins import PluginSet

BUILT_IN = {
    "serve": "cupola_server.cli.serve:serve",
    "model": "cupola_server.cli.model:model",
    "cache": "cupola_server.cli.cache:cache",
    "service": "cupola_server.cli.service:service",
    "downloads": "cupola_server.cli.downloads:downloads",
    "ps": "cupola_server.cli.ps:ps",
    "provider": "cupola_server.cli.provider:provider",
    "doctor": "cupola_server.cli.doctor:doctor",
    "bench": "cupola_server.cli.bench:bench",
    "plugins": "cupola_server.cli.plugins:plugins",
    "zip-logs": "cupola_server.cli.zip_logs:zip_logs",
}


class CupolaGroup(click.Group):
    """Imports built-in commands when they are needed, and loads plugins only for other names and for the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the built-in commands, then those of plugins."""
        return [*BUILT_IN, *sorted(_plugin_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is no such command."""
        if target := BUILT_IN.get(cmd_name):
            module, _, attribute = target.partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return _plugin_commands(ctx).get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn its errors into a message and an exit code."""
        from cupola_server.cli.errors import handle_errors  # noqa: PLC0415 - not needed to show help

        ctx.obj = _invocation(ctx)
        _log_to_stderr(ctx.obj.verbose)
        with handle_errors(ctx):
            return super().invoke(ctx)


def _show_version(ctx: click.Context, _: click.Parameter, is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version  # noqa: PLC0415 - takes 40 ms

        click.echo(f"cupola {version('cupola')}")
        ctx.exit()


# --config and --set are eager because --help is eager and lists the commands of the plugins that they enable.
@click.group(
    cls=CupolaGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog="To get started: cupola model run"
)
@click.option("--config", type=click.Path(path_type=Path), is_eager=True, help="Use this settings file.")
@click.option(
    "--set",
    "overrides",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    is_eager=True,
    help="Override a setting; repeatable.",
)
@click.option("--strict-plugins", is_flag=True, help="Fail if any plugin fails.")
@click.option("-v", "--verbose", count=True, help="Log to stderr; -vv logs debug messages.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli(**_: object) -> None:
    """Run language models on this machine."""


def _invocation(ctx: click.Context) -> Invocation:
    strict = ("plugins.strict=true",) if ctx.params.get("strict_plugins") else ()
    return Invocation(
        overrides=(*ctx.params.get("overrides", ()), *strict),
        config=ctx.params.get("config"),
        verbose=ctx.params.get("verbose", 0),
    )


def _log_to_stderr(verbose: int) -> None:
    # Warnings are for services; a command prints its own messages.
    level = (logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _plugin_commands(ctx: click.Context) -> dict[str, click.Command]:
    """Return the commands of plugins. Invalid settings or plugins only cause a warning, so that help always works."""
    from cupola.errors import CupolaError  # noqa: PLC0415 - built-in commands need no discovery

    if (loaded := ctx.meta.get(__name__)) is not None:
        return cast("dict[str, click.Command]", loaded)
    commands = ctx.meta[__name__] = {}
    _log_to_stderr(ctx.params.get("verbose", 0))
    try:
        plugins = _invocation(ctx).plugins()
    except CupolaError as error:
        if not ctx.resilient_parsing:
            click.echo(f"Warning: the commands of plugins are not available. {error}", err=True)
        return commands
    for command in plugins.commands:
        name = command.name or ""
        if name in BUILT_IN:
            if not ctx.resilient_parsing:  # no output during shell completion
                click.echo(f"Warning: {describe_conflict(name)}", err=True)
        else:
            commands[name] = command if isinstance(command, click.Command) else _wrap(name, command.main)
    return commands


def conflicting_commands(plugins: "PluginSet") -> list[str]:
    """Return the names of plugins' commands that are also names of built-in commands."""
    return [command.name for command in plugins.commands if command.name in BUILT_IN]


def describe_conflict(name: str) -> str:
    """Return the message for a plugin's command with the name of a built-in command."""
    return f"the command {name!r} of a plugin is ignored because a built-in command has this name"


def _wrap(name: str, run: Callable[..., Any]) -> click.Command:
    """Wrap a command that was not made with click. It parses its arguments and prints its help itself."""

    @click.command(name, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        run(args=list(arguments), prog_name=f"cupola {name}")

    return command
