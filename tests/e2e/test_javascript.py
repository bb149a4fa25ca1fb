"""The official JavaScript client, unchanged, over every endpoint: the suite in openai_client.mjs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import platformdirs
import pytest

SUITE = Path(__file__).with_name("openai_client.mjs")
PACKAGE = "openai@7.57.0"
FOLDER = Path(platformdirs.user_cache_dir("cupola-tests", appauthor=False)) / f"npm-{PACKAGE.replace('@', '-')}"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def node():
    """The interpreter, where there is one that has a test runner."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("the JavaScript client is not tested: there is no node on this machine")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout
    if int(version.strip().removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"the JavaScript client is not tested: node is {version.strip()}, and its test runner needs 20")
    return node


@pytest.fixture(scope="module")
def package():
    """The folder where the client is installed, which is kept."""
    if not (FOLDER / "whole").exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("the JavaScript client is not tested: there is no npm on this machine to install it with")
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(FOLDER), PACKAGE]
        done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"the JavaScript client is not tested: npm cannot install {PACKAGE}: {done.stderr[-300:]}")
        (FOLDER / "whole").touch()
    return FOLDER


def test_the_javascript_client_passes_its_suite_over_every_endpoint(node, package, service, starter_embedder):
    variables = {"CLIENT": str(package), "BASE": service.url, "MODEL": "smollm2-135m", "EMBEDDER": starter_embedder}
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(SUITE)],
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = dict(re.findall(r"^# (pass|fail|skipped|todo|cancelled) (\d+)$", done.stdout, re.MULTILINE))
    assert int(outcome.pop("pass")) >= len(re.findall(r"^ *test\(", SUITE.read_text("utf-8"), re.MULTILINE)) > 15
    assert set(outcome.values()) == {"0"}
