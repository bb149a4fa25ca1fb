"""How `foundry` tells failures: a line that begins with "Exception: " on stderr, and exit code 1."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import click

from cupola.errors import CupolaError, ModelNotFoundError
from cupola_server.cli.failures import INTERRUPTED, cause
from cupola_server.cli.remote_errors import ServiceUnreachableError

logger = logging.getLogger(__name__)


class FoundryFailure(click.ClickException):
    """What `foundry` could not do."""

    def show(self, _: object = None) -> None:
        """Print it."""
        click.echo(f"Exception: {self.format_message()}", err=True)


def not_in_catalog(name: str) -> FoundryFailure:
    """Say that no catalog knows a model."""
    return FoundryFailure(f"Model {name} was not found in the catalog")


def not_cached(name: str) -> FoundryFailure:
    """Say that a model must be downloaded first."""
    return FoundryFailure(
        f"Model {name} was not found in the local cache. Download it with: foundry model download {name}"
    )


def _unreachable(error: ServiceUnreachableError) -> FoundryFailure:
    address = urlsplit(error.uri).netloc
    return FoundryFailure(
        f"Request to local service failed. Uri:{error.uri}\n{error.detail} ({address})\n"
        "Please check service status with 'foundry service status'."
    )


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
        if isinstance(error, ServiceUnreachableError):
            raise _unreachable(error) from raised
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise error from raised  # the reader has gone; click leaves quietly
        if not isinstance(error, Exception):
            raise
        logger.debug("The command failed", exc_info=raised)
        text = str(error) if isinstance(error, CupolaError) else f"{type(error).__name__}: {error}"
        raise FoundryFailure(text) from raised
