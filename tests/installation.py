"""An environment beside this one, into which tests install and from which they remove."""

import os
import subprocess
import sys
import sysconfig
import venv

from cupola.environments.environment import python_of


class Installation:
    """A virtual environment that has Cupola from this one, and whatever else is installed into it."""

    def __init__(self, folder, **environment):
        venv.create(folder, symlinks=os.name != "nt", with_pip=False)
        self.python = python_of(folder)
        (site,) = folder.rglob("site-packages")
        ours = sysconfig.get_path("purelib")
        (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        self.environment = {**os.environ, **environment}

    def run(self, *words, check=True):
        """Run a module with this environment's interpreter; returns what it wrote to standard output."""
        done = subprocess.run(
            [self.python, "-m", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
            env=self.environment,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def cupola(self, *words):
        """Run the command line."""
        return self.run("cupola_server.cli", *words)

    def pip(self, *words):
        """Run this environment's pip for that one."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "-q", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
        assert done.returncode == 0, done.stderr
