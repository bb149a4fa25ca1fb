"""What systems are told, as they read it."""

import plistlib
import shutil
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from cupola_server.agent import units

COMMAND = ["/opt/my programs/python", "-m", "cupola_server.agent", "--set", 'cache.dir=C:\\a "b" $c %d\\']


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd")
    (tmp_path / "cupola.service").write_text(units.systemd_unit([sys.executable, *COMMAND[1:]], drain_timeout_s=10))
    command = ["systemd-analyze", "verify", "--user", tmp_path / "cupola.service"]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_systemd_gets_every_word_quoted():
    unit = units.systemd_unit(COMMAND, drain_timeout_s=12.5)
    assert (
        'ExecStart="/opt/my programs/python" -m cupola_server.agent --set "cache.dir=C:\\\\a \\"b\\" $$c %%d\\\\"\n'
    ) in unit
    assert "TimeoutStopSec=22.5\n" in unit


def test_launchd_reads_the_command_and_waits_long_enough():
    job = plistlib.loads(units.launchd_plist(COMMAND, drain_timeout_s=10).encode())
    assert job["ProgramArguments"] == COMMAND
    assert job["ExitTimeOut"] == 20
    assert job["KeepAlive"] == {"SuccessfulExit": False}


def test_windows_reads_the_command_with_its_quotes():
    task = ET.fromstring(units.scheduled_task(COMMAND).encode("utf-16"))
    space = {"": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext("Actions/Exec/Command", namespaces=space) == COMMAND[0]
    assert task.findtext("Actions/Exec/Arguments", namespaces=space) == (
        '-m cupola_server.agent --set "cache.dir=C:\\a \\"b\\" $c %d\\\\"'
    )


def test_install_writes_the_unit_where_systemd_looks_and_says_how_to_switch_it_on(machine, tmp_path):
    path = tmp_path / "systemd" / "user" / "cupola.service"
    run = machine.run("service", "install", "--system", "systemd", XDG_CONFIG_HOME=str(tmp_path))
    assert run.stdout == (
        f"Wrote {path}\nEnable it with: systemctl --user daemon-reload && systemctl --user enable --now cupola\n"
    )
    assert "CUPOLA_CACHE_DIR" in run.stderr
    assert "WantedBy=default.target" in path.read_text()
    run = machine.run("service", "install", "--system", "systemd", "--remove", XDG_CONFIG_HOME=str(tmp_path))
    assert run.returncode == 0
    assert not path.exists()
