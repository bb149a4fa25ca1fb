"""Shows how far downloads, imports and loading are: bars in a terminal, a line now and then elsewhere. On stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from cupola.contracts import Progress, ProgressEvent
from cupola_server.cli.phases import LOADING, amount_text, headline


@contextmanager
def shown_progress(model: str) -> Iterator[Progress]:
    """Hand out a callback whose events are shown until the block ends. Nothing of the bars stays on the screen."""
    if not sys.stderr.isatty():
        yield PlainProgress(model)
        return
    from cupola_server.cli.bars import progress_bars  # noqa: PLC0415 - only a terminal needs rich

    with progress_bars(model) as show:
        yield show


class PlainProgress:
    """Writes a line when a phase begins and every ten seconds, for logs. Loading is too short to be worth one."""

    interval_s = 10.0

    def __init__(self, model: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._phase = LOADING.phase
        self._written = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        """Take an event."""
        now = self._clock()
        if event.phase == LOADING.phase:
            return
        if event.phase == self._phase and now - self._written < self.interval_s:
            return
        self._phase, self._written = event.phase, now
        amount = amount_text(event)
        click.echo(f"{headline(event.phase, self._model)}{': ' if amount else ''}{amount}", err=True)
