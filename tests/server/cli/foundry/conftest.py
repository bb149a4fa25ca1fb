"""`foundry` on the machine that the other tests of the command line have."""

import sys

import pytest
from click.testing import CliRunner

from cupola_server.cli.foundry.app import foundry as program


@pytest.fixture
def foundry(machine, cupola):
    """Run a command in this process; `cupola` has set the machine up in it."""
    return lambda *words, **options: CliRunner().invoke(program, words, prog_name="foundry", **options)


@pytest.fixture
def machine(machine):
    """Run commands as `foundry` in a process of their own."""
    machine.python = sys.executable
    machine.command = lambda *words: [sys.executable, "-m", "cupola_server.cli.foundry", *words]
    return machine
