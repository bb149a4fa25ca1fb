"""Shows how far downloads, imports and loading are: bars in a terminal, a line now and then elsewhere. On stderr."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cupola.contracts import Progress, ProgressEvent
from cupola_server.cli.phases import LOADING, amount_text, download_texts, headline

if TYPE_CHECKING:
    from cupola.client.api import Download


@contextmanager
def shown_progress(model: str) -> Iterator[Progress]:
    """Hand out a callback whose events are shown until the block ends. Nothing of the bars stays on the screen."""
    if not sys.stderr.isatty():
        yield PlainProgress(model)
        return
    from cupola_server.cli.bars import progress_bars  # noqa: PLC0415 - only a terminal needs rich

    with progress_bars(model) as show:
        yield show


@contextmanager
def shown_downloads() -> "Iterator[Callable[[Sequence[Download]], None]]":
    """Hand out a callback that is told, again and again, how the downloads of a service are."""
    if not sys.stderr.isatty():
        yield PlainDownloads()
        return
    from cupola_server.cli.bars import download_bars  # noqa: PLC0415 - only a terminal needs rich

    with download_bars() as show:
        yield show


class PlainDownloads:
    """Writes a line when a download begins another phase or ends."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def __call__(self, downloads: "Sequence[Download]") -> None:
        """Take note of how they are now."""
        for each in downloads:
            running = each.state == "running"
            words = headline(each.phase, each.alias) if running else f"{each.alias}: {each.state}"
            if self._told.get(each.id) != words:
                self._told[each.id] = words
                amount = download_texts(each).amount
                click.echo(f"{words}{', ' if amount else ''}{amount}", err=True)


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
