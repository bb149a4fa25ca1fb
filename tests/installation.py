"""An environment beside this one, into which tests install and from which they remove."""

import json
import os
import subprocess
import sys
import sysconfig
import venv

from cupola.environments.environment import python_path


class Installation:
    """A virtual environment that has Cupola from this one, and whatever else is installed into it.

    Args:
        folder: Where to make it.
        timeout_s: Longest wait for a command.
        environment: Variables for its commands.
    """

    def __init__(self, folder, *, timeout_s=110, **environment):
        venv.create(folder, symlinks=os.name != "nt", with_pip=False)
        self.python = python_path(folder)
        (site,) = folder.rglob("site-packages")
        ours = sysconfig.get_path("purelib")
        (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        self.environment = {**os.environ, **environment}
        self.timeout_s = timeout_s

    def run(self, *words, check=True):
        """Run a module with this environment's interpreter; returns what it wrote to standard output."""
        done = subprocess.run(
            [self.python, "-m", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=self.timeout_s,
            env=self.environment,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def cupola(self, *words):
        """Run the command line."""
        return self.run("cupola_server.cli", *words)

    def plugins(self):
        """Return the plugins that it has, by name."""
        return {each["name"]: each for each in json.loads(self.cupola("plugins", "--output", "json"))["plugins"]}

    def pip(self, *words):
        """Run this environment's pip for that one."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "-q", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self.timeout_s)
        assert done.returncode == 0, done.stderr
