"""The log of the agent: files that take turns, and disks that are full."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from cupola_server.agent.logs import RotatingLog


@pytest.fixture
def log(tmp_path):
    handlers = []

    def open_log(limit_bytes=100, kept=2):
        handler = RotatingLog(tmp_path / "logs" / "service.log", limit_bytes=limit_bytes, kept=kept)
        handlers.append(handler)
        return lambda text, *arguments: handler.handle(
            logging.makeLogRecord({"name": "test", "msg": text, "args": arguments})
        )

    yield open_log
    for handler in handlers:
        handler.close()


def script(code, path):
    command = [sys.executable, "-c", code, path]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def lines(tmp_path, name="service.log"):
    return (tmp_path / "logs" / name).read_text().splitlines()


def test_files_take_turns_and_the_oldest_goes(log, tmp_path):
    write = log(limit_bytes=10)
    for number in range(4):
        write(f"line {number}")
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "service.log",
        "service.log.1",
        "service.log.2",
    ]
    assert lines(tmp_path) == ["line 3"]
    assert lines(tmp_path, "service.log.1") == ["line 2"]
    assert lines(tmp_path, "service.log.2") == ["line 1"]


def test_a_line_longer_than_a_file_may_be_is_written_whole(log, tmp_path):
    write = log(limit_bytes=10)
    write("x" * 50)
    write("y")
    assert lines(tmp_path, "service.log.1") == ["x" * 50]


def test_a_file_that_somebody_deletes_is_begun_anew(log, tmp_path):
    write = log()
    write("before")
    (tmp_path / "logs" / "service.log").unlink()
    (tmp_path / "logs").rmdir()
    write("after")
    assert lines(tmp_path) == ["after"]


def test_arguments_that_do_not_fit_cost_only_their_line(log, tmp_path):
    write = log()
    write("%d", "no number")
    write("next")
    assert lines(tmp_path) == ["(a record of test could not be formatted)", "next"]


def test_only_the_user_can_read_it(log, tmp_path):
    log()("secret")
    assert (tmp_path / "logs" / "service.log").stat().st_mode & 0o077 == 0


FULL_FOR_A_WHILE = """
import logging, resource, sys
from pathlib import Path
from cupola_server.agent.logs import RotatingLog
handler = RotatingLog(Path(sys.argv[1]), limit_bytes=1000, kept=1)
write = lambda text: handler.handle(logging.makeLogRecord({"msg": text}))
write("before")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (7, hard))
write("lost")
write("lost too")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
write("after")
"""


def test_what_a_full_disk_swallowed_is_counted_once_there_is_room_again(tmp_path):
    path = tmp_path / "service.log"
    run = script(FULL_FOR_A_WHILE, path)
    assert (run.returncode, run.stderr) == (0, "")
    assert path.read_text().splitlines() == ["before", "(2 lines could not be written)", "after"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is a device of Linux")  # noqa: PTH110
def test_a_service_whose_log_is_on_a_full_disk_serves_on(machine):
    machine.files.log.parent.mkdir()
    machine.files.log.symlink_to("/dev/full")
    assert machine.ensure().communicate(timeout=30)[1] == ""
    with machine.client() as client:
        client.download_model("echo")
        assert client.load_model("echo").alias == "echo"


STDERR = """
import os, sys, time
from pathlib import Path
from cupola.settings import ServiceSettings
from cupola_server.agent.logs import open_log, take_over_stderr
log = Path(sys.argv[1])
open_log(log, ServiceSettings())
take_over_stderr(log.with_name("last"))
os.write(2, b"a word of some library\\nhalf")
while not log.exists():
    time.sleep(0.01)
print(log.read_text())
"""


def test_what_is_written_to_standard_error_is_logged(tmp_path):
    run = script(STDERR, tmp_path / "log")
    assert run.stdout.strip().endswith("WARNING stderr [-]: a word of some library")
    assert run.stderr == ""


def test_a_crash_leaves_its_last_words(machine):
    machine.ensure().communicate(timeout=30)
    os.kill(machine.agent().pid, signal.SIGSEGV)
    machine.wait_for_end()
    assert "Fatal Python error: Segmentation fault" in machine.files.stderr.read_text()
    assert "Segmentation fault" in machine.run("service", "diag").stdout
