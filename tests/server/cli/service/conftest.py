import os
import subprocess
import sys
from pathlib import Path

import pytest

from machine import Machine

PROGRAMS = Path(sys.executable).parent


class Programs(Machine):
    """Runs the installed programs by their names."""

    def program(self, name, *words, **environment):
        return subprocess.run(
            [PROGRAMS / name, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment, **environment},
        )


@pytest.fixture
def machine(tmp_path):
    machine = Programs(tmp_path)
    yield machine
    machine.end()


@pytest.fixture
def foundry(machine):
    return lambda *words, **environment: machine.program("foundry", "service", *words, **environment)


@pytest.fixture
def cupola(machine):
    return lambda *words, **environment: machine.program("cupola", "service", *words, **environment)
