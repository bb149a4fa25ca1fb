"""`cupola downloads`, with a real service that downloads."""

import json
import os
import pty
import select
import subprocess

import pytest

from machine import Machine


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    machine.install("held", "held_plugin")
    yield machine
    machine.end()


@pytest.fixture
def downloads(machine):
    """Run `cupola downloads`, while a service runs."""
    started = machine.run("service", "start")
    assert started.returncode == 0, started.stderr
    return lambda *words: machine.run("downloads", *words)


def states(downloads):
    return [(each["alias"], each["state"]) for each in json.loads(downloads("list", "-o", "json").stdout)]


def test_a_download_is_started_listed_cancelled_resumed_and_watched_to_its_end(downloads, machine, tmp_path):
    assert downloads("list").stderr.startswith("There are no downloads.")
    begun = downloads("start", "held")
    assert (
        begun.stdout == "held-generic-cpu:1 is being downloaded. Run `cupola downloads watch` to see the progress.\n"
    ), begun.stderr
    assert states(downloads) == [("held", "running")]
    shown = downloads("list").stdout.splitlines()
    assert shown[0].split() == ["Alias", "Model", "ID", "State", "Amount", "Rate", "Remaining", "Reason"]
    assert "MB of 2 MB" in shown[1]

    assert "held-generic-cpu:1 was cancelled" in downloads("cancel", "HELD").stdout
    assert states(downloads) == [("held", "cancelled")]
    again = downloads("cancel", "held")
    assert (again.returncode, "'held' is not being downloaded" in again.stderr) == (1, True)

    assert "is being downloaded" in downloads("resume", "held").stdout
    watching = machine.start("downloads", "watch")
    assert watching.stderr.readline() == "Downloading held, 1 MB of 2 MB\n"
    (tmp_path / "go").touch()
    _, rest = watching.communicate(timeout=30)
    assert (watching.returncode, rest.splitlines()[-1]) == (0, "held: done, 2 MB of 2 MB")
    assert states(downloads) == [("held", "done")]
    assert "is in the cache" in downloads("start", "held").stdout
    assert json.loads(machine.run("cache", "list", "-o", "json").stdout)[0]["alias"] == "held"


def test_a_download_that_fails_says_why_and_a_watcher_fails_with_it(downloads, machine):
    downloads("start", "held")
    watching = machine.start("downloads", "watch")
    assert "Downloading held" in watching.stderr.readline()
    assert downloads("cancel", "held").returncode == 0
    _, err = watching.communicate(timeout=30)
    assert (watching.returncode, err.splitlines()[-1]) == (1, "held: the download was cancelled")
    begun = downloads("start", "nothing")
    assert (begun.returncode, "'nothing'" in begun.stderr) == (1, True)


def test_a_terminal_shows_a_bar_for_each_download(downloads, machine, tmp_path):
    downloads("start", "held")
    ours, theirs = pty.openpty()
    watching = machine.start("downloads", "watch", stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    written = b""
    while b"1 MB of 2 MB" not in written and select.select([ours], [], [], 30)[0]:
        written += os.read(ours, 65_536)
    assert b"Downloading held" in written
    (tmp_path / "go").touch()
    assert watching.wait(timeout=30) == 0
    os.close(ours)


def test_without_a_service_the_error_says_how_to_start_one(machine):
    result = machine.run("downloads", "list")
    assert (result.returncode, "cupola service start" in result.stderr) == (1, True)
