"""Progress of downloads, imports and loading on stderr: bars in a terminal, a line now and then otherwise."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from cupola.contracts import Progress, ProgressEvent
from cupola_server.cli.ui.tables import format_bytes

if TYPE_CHECKING:
    from cupola.client.api import Download

LOADING = ProgressEvent("load", 0, 0, "")

_VERBS = {
    "download": "Downloading",
    "import": "Importing",
    "load": "Loading",
    "verify": "Checking",
    "export": "Exporting",
}


@contextmanager
def show_progress(model: str) -> Iterator[Progress]:
    """Yield a callback that shows its events until the block ends. Bars are then erased."""
    if not sys.stderr.isatty():
        yield PlainProgress(model)
        return
    from cupola_server.cli.ui.bars import progress_bars  # noqa: PLC0415 - imports rich

    with progress_bars(model) as show:
        yield show


@contextmanager
def show_downloads() -> "Iterator[Callable[[Sequence[Download]], None]]":
    """Yield a callback that shows the current state of a service's downloads; call it repeatedly."""
    if not sys.stderr.isatty():
        yield PlainDownloads()
        return
    from cupola_server.cli.ui.bars import download_bars  # noqa: PLC0415 - imports rich

    with download_bars() as show:
        yield show


class PlainProgress:
    """Writes a line when a phase begins and every ten seconds after. Loading is too short to need one."""

    interval_s = 10.0

    def __init__(self, model: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._phase = LOADING.phase
        self._written_at = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        """Handle an event."""
        now = self._clock()
        if event.phase == LOADING.phase:
            return
        if event.phase == self._phase and now - self._written_at < self.interval_s:
            return
        self._phase, self._written_at = event.phase, now
        amount = format_amount(event)
        click.echo(f"{format_phase(event.phase, self._model)}{': ' if amount else ''}{amount}", err=True)


class PlainDownloads:
    """Writes a line when a download begins another phase or ends."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def __call__(self, downloads: "Sequence[Download]") -> None:
        """Handle the current state of the downloads."""
        for download in downloads:
            running = download.state == "running"
            line = format_phase(download.phase, download.alias) if running else f"{download.alias}: {download.state}"
            if self._lines.get(download.id) != line:
                self._lines[download.id] = line
                amount = format_download(download).amount
                click.echo(f"{line}{', ' if amount else ''}{amount}", err=True)


def format_phase(phase: str, model: str) -> str:
    """Format a phase as "Downloading smollm2-135m"."""
    return f"{_VERBS.get(phase, phase.capitalize())} {model}"


def format_amount(event: ProgressEvent) -> str:
    """Format an amount as "12 MB of 93 MB" or "3 of 30 layers"; empty if nothing is counted."""
    if event.unit == "bytes":
        done, total = format_bytes(event.done) or "0 MB", format_bytes(event.total)
        return f"{done} of {total}" if total else done
    if not event.total:
        return f"{event.done} {event.unit}" if event.done else ""
    return f"{event.done} of {event.total} {event.unit}"


def format_rate(per_s: float, unit: str) -> str:
    """Format a rate as "12 MB/s"; empty for units other than bytes and for a rate of 0."""
    return f"{format_bytes(int(per_s))}/s" if unit == "bytes" and per_s >= 1 else ""


class DownloadTexts(Struct, frozen=True):
    """The progress of a download as texts; unknown ones are empty.

    Attributes:
        amount: Such as "12 MB of 93 MB".
        rate: Such as "12 MB/s".
        left: The estimated time, such as "7 s".
    """

    amount: str
    rate: str
    left: str


def format_download(download: "Download") -> DownloadTexts:
    """Format the progress of a download."""
    event = ProgressEvent(download.phase, download.done, download.total, download.unit)
    if download.state != "running":
        return DownloadTexts(format_amount(event), "", "")
    left = "" if download.remaining_s is None else f"{download.remaining_s:.0f} s"
    return DownloadTexts(format_amount(event), format_rate(download.per_s, download.unit), left)
