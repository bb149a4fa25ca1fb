"""Failures inside task groups, made plain."""

from collections.abc import Iterator
from contextlib import contextmanager

from cupola_server.cli.failures import cause


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what a task group wrapped, if the block raises a group: the error that says most."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise cause(group) from group
