"""Help and usage errors of `foundry`, in the layout of .NET's command-line library that the original uses."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

import click

_USAGE_ERROR = 2
_MIN_COLUMN = 20
Rows = Sequence[tuple[str, str]]


class FoundryCommand(click.Command):
    """A command whose help has titled sections, shown by `-?`, `-h` and `--help`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-?", "-h", "--help"]})
        super().__init__(*args, **kwargs)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text."""
        return format_help(self, ctx)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the `--help` option with the original's description."""
        if option := super().get_help_option(ctx):
            option.help = "Show help and usage information"
        return option

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an extra argument is a usage error with the original's message."""
        is_group = isinstance(self, click.Group)
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not is_group:
            raise UnrecognizedError(rest[0], ctx)
        return rest

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; usage errors are printed with the original's messages."""
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.UsageError as error:
            _print_usage_error(error)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


class FoundryGroup(FoundryCommand, click.Group):
    """A group of commands with the original's help."""

    command_class = FoundryCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("no_args_is_help", False)
        super().__init__(*args, **kwargs)
        self._aliases: dict[str, str] = {}

    def alias(self, name: str, other: str) -> None:
        """Add another name for a command."""
        self._aliases[other] = name

    def aliases_of(self, name: str) -> list[str]:
        """Return the other names of a command."""
        return [other for other, target in self._aliases.items() if target == name]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by any of its names; None if there is none."""
        return super().get_command(ctx, self._aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command to run."""
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            raise UnrecognizedError(args[0], ctx)
        return args[0], command, args[1:]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; without a command, print an error and the help."""
        if not args and not ctx.resilient_parsing:
            click.echo("Required command was not provided.\n", err=True)
            click.echo(ctx.get_help())
            ctx.exit(_USAGE_ERROR)
        return super().parse_args(ctx, args)


class UnrecognizedError(click.UsageError):
    """An unknown command or argument."""

    def __init__(self, word: str, ctx: click.Context) -> None:
        super().__init__(f"Unrecognized command or argument '{word}'.", ctx)


def format_help(command: click.Command, ctx: click.Context) -> str:
    """Format a command's help: description, usage, arguments, options, commands."""
    description = (command.help or "") if ctx.parent is None else (command.help or "").rstrip(".")
    arguments = [(f"<{each.human_readable_name}>", _argument_help(each)) for each in _arguments(command)]
    options = [(_option_names(each), _option_help(each)) for each in _options(command, ctx)]
    sections = [
        ("Description:", textwrap.indent(description, "  ", lambda line: bool(line.strip()))),
        ("Usage:", f"  {_usage(command, ctx)}"),
        ("Arguments:", _columns(arguments)),
        ("Options:", _columns(options)),
        ("Commands:", _columns(_command_rows(command, ctx))),
    ]
    return "\n\n".join(f"{title}\n{text}" for title, text in sections if text)


def _print_usage_error(error: click.UsageError) -> NoReturn:
    path = error.ctx.command_path if error.ctx else "foundry"
    match error:
        case click.NoSuchOption():
            problem = f"Unrecognized command or argument '{error.option_name}'."
        case click.MissingParameter(param=click.Argument()):
            problem = f"Required argument missing for command: '{path.rpartition(' ')[2]}'."
        case _:
            problem = error.format_message()
    click.echo(f"{problem}\nHint: Run '{path} --help' to see usage.", err=True)
    sys.exit(_USAGE_ERROR)


def _usage(command: click.Command, ctx: click.Context) -> str:
    words = [f"<{each.human_readable_name}>" for each in _arguments(command)]
    if isinstance(command, click.Group):
        words.append("[command]")
    return " ".join([ctx.command_path, *words, "[options]"])


def _arguments(command: click.Command) -> list[click.Argument]:
    return [each for each in command.params if isinstance(each, click.Argument)]


def _options(command: click.Command, ctx: click.Context) -> list[click.Option]:
    options = [each for each in command.get_params(ctx) if isinstance(each, click.Option) and not each.hidden]
    return sorted(options, key=lambda each: "--help" not in each.opts) if isinstance(command, click.Group) else options


def _argument_help(argument: click.Argument) -> str:
    return "The alias or the id of a model" if argument.human_readable_name == "model" else ""


def _option_names(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    values = "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else option.metavar
    return f"{names} <{values or option.name}>"


def _option_help(option: click.Option) -> str:
    shown = f" [default: {option.default}]" if option.show_default else ""
    return f"{(option.help or '').rstrip('.')}{shown}"


def _command_rows(command: click.Command, ctx: click.Context) -> list[tuple[str, str]]:
    if not isinstance(command, click.Group):
        return []
    rows = []
    for name in command.list_commands(ctx):
        inner = command.get_command(ctx, name)
        if inner is None or inner.hidden:
            continue
        names = sorted([name, *(command.aliases_of(name) if isinstance(command, FoundryGroup) else ())])
        words = [", ".join(names), *(f"<{each.human_readable_name}>" for each in _arguments(inner))]
        rows.append((" ".join(words), inner.get_short_help_str(limit=200).rstrip(".")))
    return rows


def _columns(rows: Rows) -> str:
    """Format rows in two columns. A terminal wraps the right one; a pipe gets one line per row."""
    if not rows:
        return ""
    left = max(len(names) for names, _ in rows)
    room = max(shutil.get_terminal_size().columns - left - 4, _MIN_COLUMN) if sys.stdout.isatty() else 1000
    lines = []
    for names, text in rows:
        head, *rest = textwrap.wrap(text, room) or [""]
        lines += [f"  {names:<{left}}  {head}".rstrip(), *(f"  {'':<{left}}  {more}" for more in rest)]
    return "\n".join(lines)
