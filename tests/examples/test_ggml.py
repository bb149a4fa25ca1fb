"""The example plugin for ggml, as a user has it: installed from its folder, chatting, removed."""

import json
import os
import platform
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from conftest import SHARED_CACHE
from cupola.environments.environment import python_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "cupola-ggml"
MACHINE = SHARED_CACHE.parent / "machine"

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="onnxruntime-ggml for Linux is tested"
    ),
]


class Installation:
    """An environment that has Cupola from this one, and whatever else is installed into it."""

    def __init__(self, folder, settings):
        venv.create(folder, with_pip=False)
        self.python = python_of(folder)
        (site,) = folder.glob("lib/python*/site-packages")
        parent = sysconfig.get_path("purelib")
        (site / "parent.pth").write_text(f"import site; site.addsitedir({parent!r})\n")
        self.environment = {
            **os.environ,
            "CUPOLA_CACHE_DIR": str(settings.cache_dir),
            "CUPOLA_MACHINE_DIR": str(MACHINE),
            "ORT_GGML_LOG": "warn",
        }

    def pip(self, *words):
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            *words,
            "--quiet",
            "--disable-pip-version-check",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr

    def cupola(self, *words):
        command = [self.python, "-m", "cupola_server.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def plugins(self):
        return {each["name"] for each in json.loads(self.cupola("plugins", "--output", "json"))["plugins"]}


@pytest.fixture(scope="module")
def installation(tmp_path_factory, starter_settings):
    return Installation(tmp_path_factory.mktemp("installation") / "venv", starter_settings)


def test_it_is_installed_from_its_folder_answers_through_ggml_and_is_removed(installation):
    assert "ggml" not in installation.plugins()
    installation.pip("install", "--no-deps", "--no-build-isolation", str(EXAMPLE))
    assert "ggml" in installation.plugins()
    listed = {each["alias"]: each for each in json.loads(installation.cupola("provider", "list", "--output", "json"))}
    if listed["ggml"]["status"] != "usable":
        installation.cupola("provider", "install", "ggml")
    words = ("--provider", "ggml", "--temperature", "0", "--max-tokens", "16", "--prompt", "What is 2+2?")
    assert "4" in installation.cupola("model", "run", "smollm2-135m", *words)
    installation.pip("uninstall", "--yes", "cupola-ggml")
    assert "ggml" not in installation.plugins()
