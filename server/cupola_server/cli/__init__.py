"""The command lines `cupola` and `foundry`: one module for each command group, imported when its command runs.

`main` is the entry point. Slow imports are inside the functions that need them, so that `--version`, `--help` and usage
errors are printed immediately.
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
    """Run the command in `sys.argv` and exit: 0 for success, 1 for an error, 2 for wrong usage, 130 after Ctrl+C.

    Args:
        program: "cupola" or "foundry"; None is the name by which this program was called.
    """
    program = program or Path(sys.argv[0]).stem.lower()
    for stream in (sys.stdout, sys.stderr):
        # A model may generate characters that the encoding of the pipe lacks.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    try:
        _program(program)(prog_name="foundry" if program == "foundry" else None)
    finally:
        _flush()
    raise AssertionError("click exits by itself")


def _program(name: str) -> "click.Command":
    """Return the root command; imported here because importing this package must be cheap."""
    if name == "foundry":
        from cupola_server.cli.foundry.app import foundry  # noqa: PLC0415

        return foundry
    from cupola_server.cli.app import cli  # noqa: PLC0415

    return cli


def _flush() -> None:
    """Flush stdout and ignore a closed pipe (`| head`), which Python would report at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
