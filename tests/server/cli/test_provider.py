"""`cupola provider`, and running a model on a provider that it installed."""

import json
import os
import signal
import sys

import anyio
import pytest

from tiny_wheel import make_wheel
from waiting import until


@pytest.fixture
def apart(machine, tmp_path):
    """A machine with a provider that has its own environment, whose package is installed from a wheel."""
    machine.install("apart", "apart_plugin")
    requirement = make_wheel(tmp_path, "apart_driver", "def version(): return '1.0'")
    folder = tmp_path / "machine"

    def run(*words, **environment):
        known = {"APART_REQUIREMENTS": requirement, "CUPOLA_MACHINE_DIR": str(folder), "PIP_QUIET": ""}
        return machine.run(*words, **{**known, **environment})

    run.environments = folder / "environments"
    return run


def test_a_provider_is_installed_runs_a_model_in_its_environment_and_is_removed(apart):
    told = apart("model", "run", "echo", "--prompt", "hello", "--provider", "apart")
    assert told.returncode == 1
    assert "apart: Its packages are not installed. Run `cupola provider install apart`." in told.stderr
    installed = apart("provider", "install", "apart")
    assert installed.returncode == 0, installed.stderr
    assert "apart is installed" in installed.stdout
    assert f"CPU {apart.environments / 'apart'}" in installed.stdout
    assert "Successfully installed" in installed.stderr  # pip's own words
    listed = json.loads(apart("provider", "list", "-o", "json").stdout)
    assert {each["alias"]: each["status"] for each in listed} == {"echo": "usable", "apart": "usable"}
    answered = apart("model", "run", "echo", "--prompt", "hello", "--provider", "apart")
    assert (answered.stdout, answered.returncode) == ("hello\n", 0), answered.stderr
    assert apart("model", "run", "echo", "--prompt", "hello", "--device", "cpu").stdout == "hello\n"
    assert apart("provider", "remove", "apart").returncode == 0
    assert list(apart.environments.iterdir()) == []
    assert "is not installed" in apart("provider", "remove", "apart").stderr


def test_a_failed_installation_reports_the_reason_and_leaves_nothing(apart):
    result = apart("provider", "install", "apart", APART_REQUIREMENTS="x @ file:///no-such-folder/x-1-py3-none-any.whl")
    assert result.returncode == 1
    assert "pip failed" in result.stderr
    assert list(apart.environments.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_while_it_installs_leaves_nothing(apart, machine, tmp_path):
    pipe = tmp_path / "x-1-py3-none-any.whl"
    os.mkfifo(pipe)  # nobody writes to it, which keeps pip waiting
    known = {"APART_REQUIREMENTS": f"x @ {pipe.as_uri()}", "CUPOLA_MACHINE_DIR": str(apart.environments.parent)}
    process = machine.start("provider", "install", "apart", env={**os.environ, **machine.environment, **known})
    anyio.run(until, lambda: list(apart.environments.glob(".building-*/venv/bin")), 30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert list(apart.environments.iterdir()) == []


def test_an_unknown_provider_lists_the_available_ones_and_an_unknown_device_is_a_usage_error(apart):
    assert (
        "Unknown execution provider 'nothing'. Available: apart, echo" in apart("provider", "install", "nothing").stderr
    )
    assert "Available: apart, echo" in apart("model", "run", "echo", "--prompt", "x", "--provider", "nothing").stderr
    assert apart("model", "run", "echo", "--prompt", "x", "--device", "TPU").returncode == 2


def test_a_provider_in_our_own_environment_needs_no_installation(apart):
    result = apart("provider", "install", "echo")
    assert result.returncode == 1
    assert "needs no environment of its own" in result.stderr
