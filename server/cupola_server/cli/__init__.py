"""The command line, `cupola` and `foundry`. Each command has its module, imported when the command runs.

`main` is the only door. What is slow to import stays inside the functions that need it, so that `--version`,
`--help` and mistakes in the command's wording answer at once.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import click

__all__ = ["main"]


def main(program: str | None = None) -> NoReturn:
    """Run the command that `sys.argv` names, then exit: 0 done, 1 failed, 2 misused, 130 interrupted.

    Args:
        program: "cupola" or "foundry"; None means the name by which this program was called.
    """
    program = program or Path(sys.argv[0]).stem.lower()
    for stream in (sys.stdout, sys.stderr):
        # A model may write any character, whatever the encoding of the pipe.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    try:
        _program(program)(prog_name="foundry" if program == "foundry" else None)
    finally:
        _flush()
    raise AssertionError("click exits by itself")


def _program(name: str) -> "click.Command":
    """Import the program that goes by a name; importing this package stays free."""
    if name == "foundry":
        from cupola_server.cli.foundry.app import foundry  # noqa: PLC0415

        return foundry
    from cupola_server.cli.app import cli  # noqa: PLC0415

    return cli


def _flush() -> None:
    """Flush stdout here, where a reader that has gone (`| head`) can be ignored; at exit Python would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
