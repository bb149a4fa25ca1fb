"""The command line, `cupola` and `foundry`. Each command has its module, imported when the command runs.

`main` is the only door. What is slow to import stays inside the functions that need it, so that `--version`,
`--help` and mistakes in the command's wording answer at once.
"""

import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command that `sys.argv` names, then exit: 0 done, 1 failed, 2 misused, 130 interrupted."""
    from cupola_server.cli.app import cli  # noqa: PLC0415 - importing the package stays free

    for stream in (sys.stdout, sys.stderr):
        # A model may write any character, whatever the encoding of the pipe.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    try:
        cli()
    finally:
        _flush()
    raise AssertionError("click exits by itself")


def _flush() -> None:
    """Flush stdout here, where a reader that has gone (`| head`) can be ignored; at exit Python would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
