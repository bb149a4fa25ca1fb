"""Errors of commands: a sentence on stderr and an exit code, with a traceback only for `-v`."""

import errno
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cupola.errors import CupolaError

if TYPE_CHECKING:
    from cupola.plugins import PluginSet

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def to_click_exception(error: Exception) -> click.ClickException:
    """Convert an error to an exception that click prints as "Error: ..."."""
    return click.ClickException(str(error) if isinstance(error, CupolaError) else _describe_bug(error))


@contextmanager
def handle_errors(
    ctx: click.Context, convert: Callable[[Exception], click.ClickException] = to_click_exception
) -> Iterator[None]:
    """Convert errors of the block to click's exceptions, with exit code 1, or 130 after Ctrl+C.

    Args:
        ctx: The context of the command.
        convert: Converts an error to an exception that click prints.
    """
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.ClickException, SystemExit):
        raise
    except BaseException as raised:
        error = root_cause(raised)
        if isinstance(error, KeyboardInterrupt):
            click.echo(err=True)
            ctx.exit(INTERRUPTED)
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise error from raised  # the reader of the pipe is gone; click exits without a message
        if not isinstance(error, Exception):
            raise
        level = logging.DEBUG if isinstance(error, CupolaError) else logging.INFO
        logger.log(level, "The command failed", exc_info=raised)
        raise convert(error) from raised


def root_cause(error: BaseException) -> BaseException:
    """Unwrap an exception group: return its KeyboardInterrupt, else its first CupolaError, else its first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [root_cause(inner) for inner in error.exceptions]
    for kind in (KeyboardInterrupt, CupolaError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def warn_of_failed_plugins(plugins: "PluginSet") -> None:
    """Warn at a terminal that plugins failed; scripts use `--strict-plugins`."""
    if plugins.failures and sys.stderr.isatty():
        names = ", ".join(sorted({failure.plugin for failure in plugins.failures}))
        click.echo(f"Some plugins failed: {names}. Run `cupola plugins` to see why.", err=True)


def _describe_bug(error: Exception) -> str:
    return (
        f"Unexpected {type(error).__name__}: {error}\n"
        "This is a bug in Cupola or in a plugin. Run the command again with `cupola -v` to get a traceback, "
        "and include it in a bug report."
    )
