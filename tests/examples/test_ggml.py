"""The example plugin for ggml, as a user has it: installed from its folder, chatting, removed."""

import json
import platform
import sys
from pathlib import Path

import pytest

from conftest import SHARED_CACHE
from installation import Installation

EXAMPLE = Path(__file__).parents[2] / "examples" / "cupola-ggml"
MACHINE = SHARED_CACHE.parent / "machine"

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="onnxruntime-ggml for Linux is tested"
    ),
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory, starter_settings):
    return Installation(
        tmp_path_factory.mktemp("installation") / "venv",
        timeout_s=300,
        CUPOLA_CACHE_DIR=str(starter_settings.cache_dir),
        CUPOLA_MACHINE_DIR=str(MACHINE),
        ORT_GGML_LOG="warn",
    )


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
