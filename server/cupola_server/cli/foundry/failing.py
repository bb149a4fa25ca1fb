"""How `foundry` tells failures: a line that begins with "Exception: " on stderr, and exit code 1."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from cupola.errors import CupolaError, ModelNotFoundError
from cupola_server.cli.failures import INTERRUPTED, cause

logger = logging.getLogger(__name__)


class FoundryFailure(click.ClickException):
    """What `foundry` could not do."""

    def show(self, _: object = None) -> None:
        """Print it."""
        click.echo(f"Exception: {self.format_message()}", err=True)


def not_in_catalog(name: str) -> FoundryFailure:
    """Say that no catalog knows a model."""
    return FoundryFailure(f"Model {name} was not found in the catalog")


@contextmanager
def told(ctx: click.Context) -> Iterator[None]:
    """Turn what the block raises into what `foundry` prints."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.ClickException, SystemExit):
        raise
    except BaseException as raised:
        error = cause(raised)
        if isinstance(error, KeyboardInterrupt):
            click.echo(err=True)
            ctx.exit(INTERRUPTED)
        if isinstance(error, ModelNotFoundError):
            raise not_in_catalog(error.model) from raised
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise error from raised  # the reader has gone; click leaves quietly
        if not isinstance(error, Exception):
            raise
        logger.debug("The command failed", exc_info=raised)
        text = str(error) if isinstance(error, CupolaError) else f"{type(error).__name__}: {error}"
        raise FoundryFailure(text) from raised
