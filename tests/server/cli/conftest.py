"""A machine with two more plugins installed, and its command line."""

import pytest
from click.testing import CliRunner

from cupola_server.cli.app import cli
from machine import SHELF, TESTS, Machine


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    machine.end()


@pytest.fixture
def cupola(machine, monkeypatch):
    """Run a command in this process; quicker, where the process itself is not what is tested."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    for folder in (TESTS, SHELF, machine.site):
        monkeypatch.syspath_prepend(folder)
    return lambda *words, **options: CliRunner().invoke(cli, words, prog_name="cupola", **options)
