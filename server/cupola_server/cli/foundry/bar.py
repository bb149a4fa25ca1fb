"""The progress bar of `foundry model download`: 36 signs, a percentage and the time that is left, over and over."""

import shutil
import sys
import time
from collections.abc import Callable

import click

from cupola.contracts import ProgressEvent

_WIDTH = 36
_LEAST_WIDTH = 4
_INTERVAL_S = 0.1
_SPEED_COLUMN = 18


class DownloadBar:
    """Shows one piece of work on one line of stdout; also in a pipe, where programs read the percentage."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._written: float | None = None
        self._phase = ""
        self._event: ProgressEvent | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Take an event. What comes after the download, such as a conversion, gets a bar of its own."""
        now = self._clock()
        if event.phase != self._phase:
            self.finish()
            self._phase, self._started, self._written = event.phase, now, None
        self._event = event
        if self._written is None or now - self._written >= _INTERVAL_S:
            self._written = now
            self._write(self._line(event, now))

    def finish(self) -> None:
        """End the line with a full bar and the speed. Nothing if there was no work."""
        if self._event is None:
            return
        event, self._event = self._event, None
        now = self._clock()
        total = max(event.total, event.done) or 1
        full = ProgressEvent(event.phase, total, total, event.unit)
        speed = _speed_text(total / max(now - self._started, 0.001)) if event.unit == "bytes" else ""
        self._write(self._line(full, now) + (f"{speed:>{_SPEED_COLUMN}}" if speed else ""))
        click.echo()

    def _line(self, event: ProgressEvent, now: float) -> str:
        part = min(event.done / event.total, 1.0) if event.total else 0.0
        left_s = (now - self._started) * (1 - part) / part if part else 0.0
        text = f" {100 * part:6.2f} % [Time remaining: about {_time_text(left_s)}]"
        width = _WIDTH
        if sys.stdout.isatty():  # a line that wraps cannot be overwritten
            room = shutil.get_terminal_size().columns - len(text) - _SPEED_COLUMN - 3
            width = max(min(_WIDTH, room), _LEAST_WIDTH)
        return f"[{'#' * int(part * width):<{width}}]{text}"

    def _write(self, line: str) -> None:
        click.echo(f"\r{line}", nl=False)


def _time_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"


def _speed_text(per_s: float) -> str:
    return f"{per_s / 1e6:.1f} MB/s"
