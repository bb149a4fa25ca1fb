"""`foundry` on the machine that the other tests of the command line have."""

import sys

import pytest
from click.testing import CliRunner

from cupola_server.cli.foundry.app import foundry as program
from machine import SHELF, TESTS, Machine


def as_foundry(machine):
    """Run commands as `foundry` in a process of their own."""
    machine.python = sys.executable
    machine.command = lambda *words: [sys.executable, "-m", "cupola_server.cli.foundry", *words]
    return machine


def in_this_process(*words, **options):
    return CliRunner().invoke(program, words, prog_name="foundry", **options)


@pytest.fixture
def machine(machine):
    return as_foundry(machine)


@pytest.fixture
def foundry(cupola):
    """Run a command in this process; `cupola` has set the machine up in it."""
    return in_this_process


@pytest.fixture(scope="module")
def shared_machine(tmp_path_factory):
    """A machine on which the service runs and that nobody changes."""
    machine = as_foundry(Machine(tmp_path_factory.mktemp("shared")))
    assert machine.ensure().communicate()[0]
    yield machine
    machine.end()


@pytest.fixture
def served(shared_machine, monkeypatch):
    """Run a command that changes nothing in this process, where the service runs already."""
    for name, value in shared_machine.environment.items():
        monkeypatch.setenv(name, value)
    for folder in (TESTS, SHELF, shared_machine.site):
        monkeypatch.syspath_prepend(folder)
    return in_this_process
