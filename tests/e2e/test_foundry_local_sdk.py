"""Microsoft's SDK 0.5.1, unmodified, drives the whole life of a model, from starting the service to unloading."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import platformdirs
import pytest

from azure_stand_in import AzureStandIn, Variant

SDK = "foundry-local-sdk==0.5.1"
FOLDER = Path(platformdirs.user_cache_dir("cupola-tests", appauthor=False)) / SDK.replace("==", "-")
NAME, ALIAS = "smollm2-azure-instruct-generic-cpu", "smollm2-azure"
CLIENT = Path(__file__).with_name("foundry_local_client.py")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def sdk():
    """The folder of the SDK, installed once per machine; skips where it cannot be. Its dependencies are the tests'."""
    if not (FOLDER / "whole").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        command = [*install, "--no-deps", "--target", str(FOLDER), SDK]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
        if done.returncode:
            pytest.skip(f"{SDK} cannot be installed here: {done.stderr.strip()[-300:]}")
        (FOLDER / "whole").touch()
    return FOLDER


class Person:
    """Somebody with `foundry` on their PATH, who has used it never before."""

    def __init__(self, folder, sdk, azure):
        self.folder = folder
        self.cache = folder / "models"
        (folder / "config.toml").touch()
        self.environment = {
            **os.environ,
            **azure.variables,
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
            "PYTHONPATH": str(sdk),
            "CUPOLA_CONFIG": str(folder / "config.toml"),
            "CUPOLA_CACHE_DIR": str(self.cache),
            "CUPOLA_SERVICE_DIR": str(folder / "service"),
            "CUPOLA_SERVICE_LOG_DIR": str(folder / "logs"),
            "CUPOLA_RESPONSES_DIR": str(folder / "responses"),
        }

    def run(self, *command):
        return subprocess.run(
            command, env=self.environment, check=False, capture_output=True, text=True, timeout=200, cwd=self.folder
        )

    def foundry(self, *words):
        return self.run("foundry", *words)


@pytest.fixture
def person(tmp_path, sdk, starter_model_path):
    with AzureStandIn(Variant.of_folder(starter_model_path, NAME, alias=ALIAS)) as azure:
        person = Person(tmp_path, sdk, azure)
        yield person
        assert person.foundry("service", "stop").returncode == 0


def test_the_sdk_drives_the_whole_life_of_a_model(person):
    done = person.run(sys.executable, str(CLIENT), ALIAS)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    model_id = f"{NAME}:1"

    assert (report["running_before"], report["running"]) == (False, True)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", report["uri"])

    assert model_id in report["listed"]
    assert (report["model"]["alias"], report["model"]["version"]) == (ALIAS, "1")
    assert (report["model"]["execution_provider"], report["model"]["device_type"]) == ("CPUExecutionProvider", "CPU")
    assert report["model"]["file_size_mb"] > 100
    assert report["cpu"] == report["by_name"] == model_id
    assert "not found in the catalog" in report["unknown"]
    assert Path(report["location"]) == person.cache

    assert (report["cached_before"], report["loaded_before"]) == ([], [])
    assert report["load_before"].startswith("ValueError: ")
    assert "has not been downloaded yet" in report["load_before"]
    assert (report["upgradeable_before"], report["upgradeable"]) == (True, False)

    assert report["cached"] == [model_id]
    assert (person.cache / "Microsoft" / f"{NAME}-1" / "v1" / "genai_config.json").is_file()
    percentages = {float(text) for text in re.findall(r"(\d+(?:\.\d+)?)%\|", done.stderr)}
    assert max(percentages) == 100
    assert len(percentages) > 2

    assert report["loaded"] == [model_id]
    assert "4" in report["answer"]
    assert report["finish_reason"] in ("stop", "length")
    assert report["streamed"] == report["answer"]
    assert report["pieces"] > 3
    assert report["loaded_after"] == []
    assert report["bootstrapped"]
    assert report["loaded_by_bootstrap"] == [model_id]

    loaded = httpx.get(f"{report['uri']}/cupola/ps").json()["models"]
    assert [(model["id"], model["ttl_s"]) for model in loaded] == [(model_id, 600)]
    assert f"🟢  {ALIAS:<30} {model_id}\n" in person.foundry("service", "ps").stdout
