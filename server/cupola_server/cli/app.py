"""The root group: the global options, the built-in commands by name, and those that plugins contribute."""

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
    """A group that imports built-in commands when they are needed, and asks plugins only beyond those."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the built-in commands, then the contributed ones."""
        return [*BUILT_IN, *sorted(_contributed(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by its name."""
        if target := BUILT_IN.get(cmd_name):
            module, _, attribute = target.partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return _contributed(ctx).get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it raises becomes one sentence and an exit code."""
        from cupola_server.cli.failures import explained  # noqa: PLC0415 - not needed to show help

        ctx.obj = _invocation(ctx)
        _log_to_stderr(ctx.obj.verbose)
        with explained(ctx):
            return super().invoke(ctx)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - takes 40 ms

        click.echo(f"cupola {version('cupola')}")
        ctx.exit()


# --config and --set are eager because --help is: it lists the commands of the plugins that they switch on or off.
@click.group(
    cls=CupolaGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Start with: cupola model run"
)
@click.option("--config", type=click.Path(path_type=Path), is_eager=True, help="Settings file to read instead.")
@click.option(
    "--set", "overrides", metavar="SECTION.KEY=VALUE", multiple=True, is_eager=True, help="Change one setting."
)
@click.option("--strict-plugins", is_flag=True, help="Refuse to work when any plugin fails.")
@click.option("-v", "--verbose", count=True, help="Log to stderr; twice for everything.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
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
    # Warnings are for services; a command says what matters itself, in its own words.
    level = (logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _contributed(ctx: click.Context) -> dict[str, click.Command]:
    """Return the commands of plugins. Help must not fail because settings or plugins do, so this only warns."""
    from cupola.errors import CupolaError  # noqa: PLC0415 - built-in commands need no discovery

    if (known := ctx.meta.get(__name__)) is not None:
        return cast("dict[str, click.Command]", known)
    commands = ctx.meta[__name__] = {}
    _log_to_stderr(ctx.params.get("verbose", 0))
    try:
        plugins = _invocation(ctx).plugins()
    except CupolaError as error:
        if not ctx.resilient_parsing:
            click.echo(f"Warning: commands of plugins are missing. {error}", err=True)
        return commands
    for command in plugins.commands:
        name = command.name or ""
        if name in BUILT_IN:
            if not ctx.resilient_parsing:  # a shell that completes a word shows nothing else
                click.echo(f"Warning: {clash_sentence(name)}", err=True)
        else:
            commands[name] = command if isinstance(command, click.Command) else _wrapped(name, command.main)
    return commands


def clashes(plugins: "PluginSet") -> list[str]:
    """Return the names of contributed commands that a built-in command already has."""
    return [command.name for command in plugins.commands if command.name in BUILT_IN]


def clash_sentence(name: str) -> str:
    """Say why a contributed command is not offered."""
    return f"a plugin contributes the command {name!r}, which is built in; the built-in one stays"


def _wrapped(name: str, run: Callable[..., Any]) -> click.Command:
    """Offer a command that was not made with click: it parses its arguments, and its help, itself."""

    @click.command(name, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        run(args=list(arguments), prog_name=f"cupola {name}")

    return command
