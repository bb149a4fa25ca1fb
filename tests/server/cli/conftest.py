"""A machine with two more plugins installed, for the command line to find by its own means."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cupola_server.cli.app import cli

HERE = Path(__file__).parent
TESTS = HERE.parents[1]


class Machine:
    """Runs `cupola` in a process of its own, with the plugins, settings and cache of this test alone."""

    def __init__(self, folder):
        self.site = folder / "site"
        self.cache = folder / "cache"
        self.config = folder / "config.toml"
        self.config.touch()
        self.install("shelf", "shelf_plugin")
        self.install("echo", "echo_plugin")

    def install(self, name, reference, *, plugin=None):
        """Install a distribution that registers one plugin, by its own name if no other is given."""
        info = self.site / f"test_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: test-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cupola]\n{plugin or name} = {reference}\n")

    @property
    def environment(self):
        return {
            "PYTHONPATH": os.pathsep.join(map(str, (self.site, HERE, TESTS))),
            "CUPOLA_CONFIG": str(self.config),
            "CUPOLA_CACHE_DIR": str(self.cache),
            "CUPOLA_MODELS_DEFAULT": "echo",
            "TERM": "xterm",
            "CUPOLA_PLUGINS_DISABLED": '["starter", "cpu"]',
        }

    def command(self, *words):
        return [sys.executable, "-m", "cupola_server.cli", *words]

    def run(self, *words, stdin="", **environment):
        return subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **self.environment, **environment},
        )

    def start(self, *words, **options):
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, **self.environment}
        return subprocess.Popen(self.command(*words), **{"env": environment, **streams, **options})


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def cupola(machine, monkeypatch):
    """Run a command in this process; quicker, where the process itself is not what is tested."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    for folder in (TESTS, HERE, machine.site):
        monkeypatch.syspath_prepend(folder)
    return lambda *words, **options: CliRunner().invoke(cli, words, prog_name="cupola", **options)
