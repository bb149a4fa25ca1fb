"""Microsoft's own SDK on our cache folder: it lists and loads what we downloaded, with its catalog and without."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import anyio
import platformdirs
import pytest

from azure_stand_in import AzureStandIn, Variant
from cupola import Settings
from cupola.engine import open_engine
from cupola.settings import CacheSettings

SDK = "foundry-local-sdk==2.2.1"
ENVIRONMENT = Path(platformdirs.user_cache_dir("cupola-tests", appauthor=False)) / SDK.replace("==", "-")
NAME, ALIAS = "smollm2-azure-instruct-generic-cpu", "smollm2-azure"
CLIENT = Path(__file__).with_name("foundry_sdk_client.py")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the SDK's wheel for Linux is what is tested"),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def foundry_python():
    """An interpreter with the SDK, in an environment of its own that is kept; skips where it cannot be installed."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "whole").exists():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK]
        done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"{SDK} cannot be installed here: {done.stderr.strip()[-300:]}")
        (ENVIRONMENT / "whole").touch()
    return python


@pytest.fixture
def azure(starter_model_path):
    with AzureStandIn(Variant.of_folder(starter_model_path, NAME, alias=ALIAS)) as azure:
        yield azure


@pytest.fixture
def cache(azure, tmp_path):
    """A cache folder into which we downloaded the model."""
    settings = Settings(cache=CacheSettings(dir=str(tmp_path / "models")), azure=azure.settings())

    async def download():
        async with open_engine(settings) as engine:
            await engine.download(ALIAS)

    anyio.run(download)
    return settings.cache_dir


def use_sdk(python, url, cache, folder):
    (folder / "home").mkdir()
    command = [python, CLIENT, url, cache, folder / "data", ALIAS]
    environment = {**os.environ, "HOME": str(folder / "home")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_microsofts_sdk_lists_and_loads_a_model_that_we_downloaded(foundry_python, azure, cache, tmp_path):
    report = use_sdk(foundry_python, azure.gallery_url, cache, tmp_path)
    assert report["listed"] == report["cached"] == [f"{NAME}:1"]
    assert report["path"] == str(cache / "Microsoft" / f"{NAME}-1" / "v1")
    assert "4" in report["answer"]


def test_it_asks_the_catalog_what_we_ask(foundry_python, azure, cache, tmp_path):
    (ours,) = azure.asked("catalog")
    use_sdk(foundry_python, azure.gallery_url, cache, tmp_path)
    theirs = azure.asked("catalog")[-1]
    assert theirs is not ours
    assert theirs.body == ours.body
    for name in theirs.headers.keys() - {"host"}:
        assert theirs.headers[name] == ours.headers[name]


def test_without_a_catalog_it_works_from_the_listing_that_we_remembered(foundry_python, cache, tmp_path):
    report = use_sdk(foundry_python, "http://127.0.0.1:9/asset-gallery/v1.0/models", cache, tmp_path)
    assert report["listed"] == report["cached"] == [f"{NAME}:1"]
    assert (report["license"], report["context_length"]) == ("apache-2.0", 8192)
    assert "4" in report["answer"]


def test_without_a_catalog_we_work_from_the_listing_that_it_remembered(foundry_python, azure, cache, tmp_path):
    (cache / "foundry.modelinfo.json").unlink()
    use_sdk(foundry_python, azure.gallery_url, cache, tmp_path)
    azure.fail("catalog", status=404, times=None)
    settings = Settings(cache=CacheSettings(dir=str(cache)), azure=azure.settings())

    async def listed():
        async with open_engine(settings) as engine:
            return [each.info for each in await engine.models() if each.info.source == "azure"]

    (model,) = anyio.run(listed)
    assert (model.id, model.context_length, model.publisher) == (f"{NAME}:1", 8192, "Microsoft")
