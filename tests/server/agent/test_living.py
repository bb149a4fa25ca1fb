"""What an agent lives through."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys

import pytest

from waiting import until

CLOCK = """
import os, time
real = time.time
def jumped():
    try:
        with open({path!r}) as file:
            return real() + float(file.read())
    except (OSError, ValueError):
        return real()
time.time = jumped
"""

IN_A_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "cupola_server.cli", "service", "start"])
shown = b""
while b"PID" not in shown:
    shown += os.read(terminal, 1000)
os.close(terminal)
os.waitpid(pid, 0)
"""


def run(machine, code):
    environment = {**os.environ, **machine.environment}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)


def test_closing_the_terminal_that_it_was_started_from_does_not_end_it(machine):
    run(machine, IN_A_TERMINAL)
    info = machine.agent()
    assert os.getsid(info.pid) not in (os.getsid(0), info.pid)  # a session of its own, and no way to get a terminal
    with machine.client() as client:
        assert client.list_cached_models() == []


@pytest.mark.anyio
async def test_a_clock_that_jumps_neither_unloads_models_nor_keeps_them(machine, tmp_path):
    offset = tmp_path / "offset"
    (machine.site / "sitecustomize.py").write_text(CLOCK.format(path=str(offset)))
    machine.ensure().communicate(timeout=30)
    with machine.client() as client:
        client.download_model("echo")
        pid = client.load_model("echo", ttl=600).pid
        offset.write_text("31536000")
        assert [model.pid for model in client.list_loaded_models()] == [pid]
        (model,) = client.list_loaded_models()
        assert 590 < model.expires_in_s <= 600
        offset.write_text("-31536000")
        client.load_model("echo", ttl=0.2)
        await until(lambda: client.list_loaded_models() == [])
    assert machine.agent()


def test_a_cache_folder_that_is_deleted_is_made_anew(machine):
    machine.ensure().communicate(timeout=30)
    with machine.client() as client:
        client.download_model("echo")
        shutil.rmtree(machine.cache)
        assert client.list_cached_models() == []
        client.download_model("echo")
        assert [model.alias for model in client.list_cached_models()] == ["echo"]


def test_a_killed_one_leaves_no_worker_behind(machine):
    machine.ensure().communicate(timeout=30)
    with machine.client() as client:
        client.download_model("echo")
        worker = client.load_model("echo").pid
    descriptor = os.pidfd_open(worker)
    os.kill(machine.agent().pid, signal.SIGKILL)
    assert ended(descriptor)


def ended(descriptor):
    with open(descriptor, closefd=True):  # noqa: PTH123 - a process
        return bool(select.select([descriptor], [], [], 20)[0])


def test_what_a_unit_of_systemd_runs_is_an_agent_and_the_only_one(machine):
    unit = machine.run("service", "install", "--print").stdout
    command = re.search("^ExecStart=(.*)$", unit, re.MULTILINE)[1].split()
    with machine.popen(command) as first:
        assert first.stdout.readline().startswith('{"info":{"url":"http://127.0.0.1:')
        assert machine.agent().pid == first.pid
        with machine.popen(command) as second:
            assert "Another service is already running: process" in second.stdout.readline()
        assert second.returncode == 1
        first.terminate()
    assert first.returncode == 0
