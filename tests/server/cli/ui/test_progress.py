"""Progress: lines for logs, bars for terminals, all on stderr."""

import io

import pytest

from cupola.frontend import ProgressEvent
from cupola_server.cli.ui.progress import LOADING, PlainProgress, format_amount, format_rate, show_progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def interrupted_loading():
    with show_progress("tiny") as progress:
        progress(LOADING)
        raise KeyboardInterrupt


def test_a_log_gets_a_line_per_phase_and_one_every_ten_seconds(capsys):
    clock = Clock()
    progress = PlainProgress("tiny", clock=clock)
    for second in range(25):
        clock.now = second
        progress(ProgressEvent("download", second * 4_000_000, 100_000_000))
    progress(ProgressEvent("import", 0, 30, "layers"))
    progress(LOADING)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Downloading tiny: 0 MB of 100 MB",
        "Downloading tiny: 40 MB of 100 MB",
        "Downloading tiny: 80 MB of 100 MB",
        "Importing tiny: 0 of 30 layers",
    ]


def test_a_terminal_shows_bars_that_are_erased(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress("tiny") as progress:
        progress(ProgressEvent("download", 0, 0))
        progress(ProgressEvent("download", 50_000_000, 100_000_000))
        progress(ProgressEvent("unheard-of", 1, 2, "steps"))
        progress(LOADING)
    written = screen.getvalue()
    assert "Downloading tiny" in written
    assert "Loading tiny" in written
    assert "Unheard-of tiny" in written
    assert written.endswith("\x1b[2K")


def test_the_terminal_is_left_usable_when_the_work_fails(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt):
        interrupted_loading()
    assert "\x1b[?25h" in screen.getvalue()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (ProgressEvent("download", 12_000_000, 93_000_000), "12 MB of 93 MB"),
        (ProgressEvent("download", 12_000_000, 0), "12 MB"),
        (ProgressEvent("import", 3, 30, "layers"), "3 of 30 layers"),
        (ProgressEvent("import", 3, 0, "layers"), "3 layers"),
        (LOADING, ""),
    ],
)
def test_amounts_are_formatted_as_far_as_they_are_known(event, text):
    assert format_amount(event) == text


@pytest.mark.parametrize(
    ("per_s", "unit", "text"),
    [(12_300_000.0, "bytes", "12 MB/s"), (1.5e9, "bytes", "1.50 GB/s"), (0.0, "bytes", ""), (3.0, "layers", "")],
)
def test_a_rate_is_formatted_for_bytes_that_arrive(per_s, unit, text):
    assert format_rate(per_s, unit) == text


def test_a_bar_of_bytes_shows_the_rate(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress("tiny") as progress:
        for megabytes in range(40):
            progress(ProgressEvent("download", megabytes * 1_000_000, 100_000_000))
    assert "B/s" in screen.getvalue()
