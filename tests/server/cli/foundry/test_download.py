import re

import pytest

from cupola.frontend import ProgressEvent
from cupola_server.cli.foundry.download import DownloadBar


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shown(clock, capsys):
    """Shows events at times, ends the bar, and returns what was written."""

    def show(*events):
        bar = DownloadBar(clock=clock)
        for clock.now, event in events:
            bar(event)
        bar.finish()
        return capsys.readouterr().out

    return show


def bytes_of(done, total=100_000_000):
    return ProgressEvent("download", done, total)


def test_the_bar_is_that_of_the_original(shown):
    lines = shown((0.0, bytes_of(0)), (19.0, bytes_of(95_000_000)), (20.0, bytes_of(100_000_000))).split("\r")
    assert lines[1:] == [
        "[                                    ]   0.00 % [Time remaining: about 0s]",
        "[##################################  ]  95.00 % [Time remaining: about 1s]",
        "[####################################] 100.00 % [Time remaining: about 0s]",
        "[####################################] 100.00 % [Time remaining: about 0s]          5.0 MB/s\n",
    ]


def test_programs_read_the_percentage(shown):
    out = shown((0.0, bytes_of(0)), (1.0, bytes_of(12_345_678)))
    assert re.findall(r"(\d+(?:\.\d+)?) ?%", out) == ["0.00", "12.35", "100.00"]


def test_it_is_written_at_most_ten_times_a_second(shown):
    out = shown(*((second / 1000, bytes_of(second)) for second in range(1000)))
    assert 10 <= out.count("\r") <= 12


def test_what_comes_after_the_download_has_a_bar_of_its_own(shown):
    out = shown(
        (0.0, bytes_of(1, 2)),
        (1.0, ProgressEvent("import", 0, 30, "layers")),
        (2.0, ProgressEvent("import", 15, 30, "layers")),
    )
    download, conversion = out.rstrip().split("\n")
    assert download.endswith("MB/s")
    assert conversion.count("\r") >= 2
    assert "MB/s" not in conversion


def test_an_unknown_total_is_no_fault(shown):
    assert "100.00 %" in shown((0.0, bytes_of(5, 0)), (1.0, bytes_of(7, 0)))


def test_minutes_are_told(shown):
    assert "about 15m 0s]" in shown((0.0, bytes_of(0)), (100.0, bytes_of(10_000_000)))


def test_nothing_is_shown_when_there_was_nothing_to_do(shown):
    assert shown() == ""


def test_a_narrow_terminal_gets_a_shorter_bar_that_does_not_wrap(shown, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "72")
    out = shown((0.0, bytes_of(0)), (1.0, bytes_of(50_000_000)))
    assert max(map(len, out.strip().split("\r"))) < 72
