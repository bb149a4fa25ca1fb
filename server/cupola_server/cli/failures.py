"""How failures look: one sentence on stderr and an exit code, the traceback only for those who ask with -v."""

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


def as_error(error: Exception) -> click.ClickException:
    """Return what click shows as "Error: ..."."""
    return click.ClickException(str(error) if isinstance(error, CupolaError) else _unexpected(error))


@contextmanager
def explained(ctx: click.Context, failure: Callable[[Exception], click.ClickException] = as_error) -> Iterator[None]:
    """Turn what the block raises into what click shows and exit code 1, or 130 after Ctrl+C.

    Args:
        ctx: The command.
        failure: Makes of an error what is shown.
    """
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.ClickException, SystemExit):
        raise
    except BaseException as raised:
        error = cause(raised)
        if isinstance(error, KeyboardInterrupt):
            click.echo(err=True)
            ctx.exit(INTERRUPTED)
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise error from raised  # the reader has gone; click leaves quietly
        if not isinstance(error, Exception):
            raise
        level = logging.DEBUG if isinstance(error, CupolaError) else logging.INFO
        logger.log(level, "The command failed", exc_info=raised)
        raise failure(error) from raised


def cause(error: BaseException) -> BaseException:
    """Return what a task group wrapped: the error that says most, if there are several."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [cause(inner) for inner in error.exceptions]
    for kind in (KeyboardInterrupt, CupolaError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def mention_failures(plugins: "PluginSet") -> None:
    """Tell people at a terminal that plugins failed; scripts have `--strict-plugins`."""
    if plugins.failures and sys.stderr.isatty():
        names = ", ".join(sorted({failure.plugin for failure in plugins.failures}))
        click.echo(f"Some plugins failed: {names}. `cupola plugins` shows why.", err=True)


def _unexpected(error: Exception) -> str:
    return (
        f"Something unexpected happened, {type(error).__name__}: {error}\n"
        "This is a fault of Cupola or of a plugin. Run the command again with `cupola -v` for the details, "
        "and report it with them."
    )
