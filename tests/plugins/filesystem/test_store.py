"""The filesystem cache store."""

import errno
import json
import logging
from pathlib import Path

import anyio
import pytest

from cupola.cache import ModelInfo, Settings
from cupola.errors import CacheError, DiskFullError
from cupola.settings import CacheSettings
from cupola.testing import CacheStoreSuite
from cupola.testing.caches import FILES, MODEL, commit_model, write_files
from cupola_plugins import filesystem
from cupola_plugins.filesystem import FilesystemCache

pytestmark = pytest.mark.anyio


class TestFilesystemCache(CacheStoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return FilesystemCache(tmp_path / "cache")


@pytest.fixture
def store(tmp_path):
    return FilesystemCache(tmp_path / "cache")


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_the_hook_cache_stores_contributes_it_in_the_folder_of_the_settings(tmp_path):
    settings = Settings(cache=CacheSettings(dir=str(tmp_path)))
    (store,) = filesystem.cache_stores(settings)
    assert store.location == tmp_path


async def test_models_lie_as_foundry_local_has_them(store):
    cached = await commit_model(store)
    assert cached.path == store.location / "Publisher" / "tiny-generic-cpu-1"
    assert json.loads((cached.path / "inference_model.json").read_text()) == {
        "Name": "tiny-generic-cpu:1",
        "PromptTemplate": None,
    }


async def test_the_manifest_records_every_file(store):
    cached = await commit_model(store)
    manifest = json.loads((cached.path / "cupola.manifest.json").read_text())
    assert manifest["model"]["id"] == MODEL.id
    assert [(file["path"], file["size_bytes"]) for file in manifest["files"]] == [
        (name, len(FILES[name])) for name in sorted(FILES)
    ]
    assert all(len(file["sha256"]) == 64 for file in manifest["files"])


async def test_a_cache_folder_that_is_not_there_is_empty_and_stays_away(tmp_path):
    store = FilesystemCache(tmp_path / "none" / "cache")
    assert await store.list() == []
    assert await store.find("tiny:1") is None
    assert await store.remove("tiny:1") is False
    assert list(tmp_path.iterdir()) == []


async def test_listing_and_finding_write_nothing(store):
    await commit_model(store)
    before = tree(store.location)
    await store.list()
    await store.find(MODEL.id)
    await store.find("stranger:1")
    assert tree(store.location) == before


@pytest.mark.parametrize(
    ("use", "arguments"), [("list", ()), ("find", (MODEL.id,)), ("reserve", (MODEL,)), ("remove", (MODEL.id,))]
)
async def test_a_file_in_place_of_the_cache_folder_is_a_cache_error(tmp_path, use, arguments):
    (tmp_path / "file").write_text("not a folder")
    store = FilesystemCache(tmp_path / "file")
    with pytest.raises(CacheError) as caught:
        await getattr(store, use)(*arguments)
    assert str(tmp_path / "file") in str(caught.value)
    assert "cache.dir" in str(caught.value)


async def test_a_full_disk_at_commit_leaves_everything_staged(store):
    async with await store.reserve(MODEL) as staging:
        write_files(staging.path)
        (staging.path / "cupola.manifest.json").symlink_to("/dev/full")  # every write gets a real ENOSPC
        with pytest.raises(DiskFullError):
            await staging.commit()
    assert await store.list() == []
    async with await store.reserve(MODEL) as staging:
        (staging.path / "cupola.manifest.json").unlink()
        cached = await staging.commit()
    assert (await store.list()) == [cached]


async def test_what_is_staged_counts_as_room_already_taken(store, tmp_path):
    async with await store.reserve(MODEL) as staging:
        (staging.path / "sparse.bin").touch()
        with (staging.path / "sparse.bin").open("r+b") as file:
            file.truncate(10**13)
    big = ModelInfo(id=MODEL.id, alias="tiny", source="test", publisher="Publisher", size_bytes=10**13)
    await (await store.reserve(big)).release()


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "truncated"), ('{"model": {}}', "missing required field"), ("", "truncated")]
)
async def test_a_damaged_manifest_costs_one_model_and_one_line_in_the_log(store, caplog, content, reason):
    whole = await commit_model(store)
    broken = await commit_model(store, ModelInfo(id="broken:1", alias="b", source="test", publisher="Publisher"))
    (broken.path / "cupola.manifest.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert await store.list() == [whole]
        assert await store.list() == [whole]
    (line,) = caplog.messages
    assert str(broken.path) in line
    assert reason in line


async def test_an_id_without_version_does_not_overwrite_its_twin_with_version_0(store):
    twin = await commit_model(store, ModelInfo(id="twin:0", alias="t", source="test", publisher="Publisher"))
    with pytest.raises(CacheError, match="twin:0"):
        await commit_model(store, ModelInfo(id="twin", alias="t", source="test", publisher="Publisher"))
    assert await store.list() == [twin]


async def test_a_model_that_cannot_be_replaced_stays(store, monkeypatch):
    cached = await commit_model(store)
    (cached.path / "mark").write_text("the old one")
    staging = await store.reserve(MODEL)
    write_files(staging.path)
    rename = Path.rename

    def refuse(path, target):
        if path == staging.path:
            raise PermissionError(errno.EACCES, "somebody reads in it")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CacheError, match="somebody reads in it"):
        await staging.commit()
    await staging.release()
    assert (await store.find(MODEL.id)).path == cached.path
    assert (cached.path / "mark").exists()


async def test_what_a_dead_process_threw_away_is_deleted_by_the_next(store):
    old = store.location / ".staging" / ".trash" / "abc"
    write_files(old)
    await (await store.reserve(MODEL)).release()
    assert not old.exists()


async def test_an_unused_reservation_leaves_no_folder(store):
    staging = await store.reserve(MODEL)
    await staging.release()
    assert not staging.path.exists()


async def test_a_cancelled_commit_shows_nothing_or_everything(store):
    staging = await store.reserve(MODEL)
    write_files(staging.path)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await staging.commit()
    await staging.release()
    assert await store.list() == []
    async with await store.reserve(MODEL) as staging:
        await staging.commit()
    assert len(await store.list()) == 1


async def test_a_linked_model_folder_is_listed_and_only_the_link_is_removed(store, tmp_path):
    elsewhere = FilesystemCache(tmp_path / "elsewhere")
    original = await commit_model(elsewhere)
    (store.location / "Publisher").mkdir(parents=True)
    (store.location / "Publisher" / original.path.name).symlink_to(original.path)
    assert [cached.info.id for cached in await store.list()] == [MODEL.id]
    assert await store.remove(MODEL.id)
    assert await elsewhere.list() == [original]


async def test_many_models_list_fast(store):
    cached = await commit_model(store)
    for number in range(300):
        target = store.location / "Publisher" / f"copy-{number}"
        target.mkdir()
        for path in cached.path.iterdir():
            if path.is_file():
                (target / path.name).write_bytes(path.read_bytes().replace(b"tiny-generic-cpu:1", b"copy:%d" % number))
    with anyio.fail_after(2):
        await store.list()
