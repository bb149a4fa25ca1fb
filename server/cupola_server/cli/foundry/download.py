"""Downloads with the messages and the progress bar of the original `foundry`."""

import shutil
import sys
import time
from collections.abc import Callable

import click

from cupola.contracts import ProgressEvent
from cupola.contracts.models import ModelStatus
from cupola.engine import Engine

TIPS = """\
Tips:
- To find model cache location use: foundry cache location
- To find models already downloaded use: foundry cache ls"""
_WIDTH = 36
_MIN_WIDTH = 4
_INTERVAL_S = 0.1
_SPEED_COLUMN = 18


async def download_model(engine: Engine, model: ModelStatus, *, force: bool = False, tips: bool = True) -> None:
    """Download a model, or print that it is cached.

    Args:
        engine: The engine that downloads.
        model: The model.
        force: Download it even if it is cached; the cached copy stays until the new one is complete.
        tips: Print what to do next.

    Raises:
        DownloadError, CacheError, ModelFormatError: The download failed.
    """
    model_id = model.info.id
    if model.cached and not force:
        click.echo(cached_message(model_id))
        return
    click.echo(f"Downloading {model_id}...")
    bar = DownloadBar()
    try:
        await engine.download(model_id, bar, force=force)
    except BaseException:
        click.echo()
        raise
    bar.finish()
    if tips:
        click.echo(TIPS)


def cached_message(model_id: str) -> str:
    """Return the message for a model that needs no download."""
    return f"Model {model_id} was found in the local cache."


class DownloadBar:
    """A progress bar on one line of standard output, also in a pipe, where programs parse the percentage."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._written: float | None = None
        self._phase = ""
        self._event: ProgressEvent | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Show an event. Phases after the download, such as a conversion, get their own bar."""
        now = self._clock()
        if event.phase != self._phase:
            self.finish()
            self._phase, self._started, self._written = event.phase, now, None
        self._event = event
        if self._written is None or now - self._written >= _INTERVAL_S:
            self._written = now
            self._write(self._line(event, now))

    def finish(self) -> None:
        """Complete the line with a full bar and the speed. Does nothing if no event arrived."""
        if self._event is None:
            return
        event, self._event = self._event, None
        now = self._clock()
        total = max(event.total, event.done) or 1
        full = ProgressEvent(event.phase, total, total, event.unit)
        speed = _format_speed(total / max(now - self._started, 0.001)) if event.unit == "bytes" else ""
        self._write(self._line(full, now) + (f"{speed:>{_SPEED_COLUMN}}" if speed else ""))
        click.echo()

    def _line(self, event: ProgressEvent, now: float) -> str:
        part = min(event.done / event.total, 1.0) if event.total else 0.0
        remaining_s = (now - self._started) * (1 - part) / part if part else 0.0
        text = f" {100 * part:6.2f} % [Time remaining: about {_format_time(remaining_s)}]"
        width = _WIDTH
        if sys.stdout.isatty():  # a line that wraps cannot be overwritten
            room = shutil.get_terminal_size().columns - len(text) - _SPEED_COLUMN - 3
            width = max(min(_WIDTH, room), _MIN_WIDTH)
        return f"[{'#' * int(part * width):<{width}}]{text}"

    def _write(self, line: str) -> None:
        click.echo(f"\r{line}", nl=False)


def _format_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"


def _format_speed(per_s: float) -> str:
    return f"{per_s / 1e6:.1f} MB/s"
