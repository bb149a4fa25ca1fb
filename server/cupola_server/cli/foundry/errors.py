"""Failures of `foundry`: a line on stderr that starts with "Exception: ", and exit code 1."""

from contextlib import AbstractContextManager
from urllib.parse import urlsplit

import click

from cupola.errors import CupolaError, ModelNotFoundError, ServiceUnreachableError
from cupola_server.cli.errors import handle_errors


class FoundryFailure(click.ClickException):
    """A failure of a `foundry` command."""

    def show(self, _: object = None) -> None:
        """Print the message."""
        click.echo(f"Exception: {self.format_message()}", err=True)


def not_in_catalog(name: str) -> FoundryFailure:
    """Create the failure for a model that no catalog lists."""
    return FoundryFailure(f"Model {name} was not found in the catalog")


def not_cached(name: str) -> FoundryFailure:
    """Create the failure for a model that has not been downloaded."""
    return FoundryFailure(
        f"Model {name} was not found in the local cache. Download it with: foundry model download {name}"
    )


def report_errors(ctx: click.Context) -> AbstractContextManager[None]:
    """Turn exceptions of the block into `foundry` failures."""
    return handle_errors(ctx, _failure)


def _unreachable(error: ServiceUnreachableError) -> FoundryFailure:
    address = urlsplit(error.url).netloc
    return FoundryFailure(
        f"Request to local service failed. Uri:{error.url}\n{error.detail} ({address})\n"
        "Please check service status with 'foundry service status'."
    )


def _failure(error: Exception) -> FoundryFailure:
    if isinstance(error, ModelNotFoundError):
        return not_in_catalog(error.model)
    if isinstance(error, ServiceUnreachableError):
        return _unreachable(error)
    return FoundryFailure(str(error) if isinstance(error, CupolaError) else f"{type(error).__name__}: {error}")
