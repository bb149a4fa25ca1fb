"""The example provider, as its users have it: installed from its folder, chatting, by its own tests, and removed."""

import os
import re
from pathlib import Path

import pytest

from installation import Installation

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "cupola-parrot"


@pytest.fixture
def installed(tmp_path):
    """An environment with the example in it."""
    place = Installation(
        tmp_path / "venv",
        CUPOLA_CACHE_DIR=str(tmp_path / "cache"),
        CUPOLA_MACHINE_DIR=str(tmp_path / "machine"),
        CUPOLA_CONFIG=os.devnull,
    )
    assert "parrot" not in place.plugins()
    place.pip("install", "--no-deps", "--no-build-isolation", str(EXAMPLE))
    return place


def test_the_example_is_installed_seen_chats_and_is_removed_again(installed):
    seen = installed.plugins()["parrot"]
    assert seen["distribution"] == "cupola-parrot 0.1.0"
    assert seen["contributes"] == {"execution provider": ["ParrotExecutionProvider"]}
    said = installed.cupola("model", "run", "grey-parrot", "--prompt", "Pieces of eight")
    assert said == "Pieces of eight\n"
    installed.pip("uninstall", "--yes", "cupola-parrot")
    assert not installed.plugins().keys() & {"parrot", "aviary"}


def test_the_example_passes_the_suites_of_the_kit(installed):
    told = installed.run("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLE), str(EXAMPLE / "tests"))
    assert re.search(r"\d+ passed", told)


def test_the_example_is_as_short_as_the_page_says():
    lines = (EXAMPLE / "cupola_parrot.py").read_text("utf-8").splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) <= 60


def test_the_page_shows_the_code_that_is_tested():
    page = (ROOT / "docs" / "writing-a-provider.md").read_text("utf-8")
    shown = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL)
    files = [*EXAMPLE.glob("*.py"), *EXAMPLE.glob("*.toml"), *EXAMPLE.glob("tests/*.py")]
    tested = "\n".join(path.read_text("utf-8") for path in files)
    assert len(shown) >= 5
    assert [block for block in shown if block not in tested] == []
