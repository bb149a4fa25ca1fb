"""Folders and GGUF files of this machine become models of the cache."""

import os

import anyio
import pytest

from cupola.catalog import ImportOptions, Settings
from cupola.engine import open_engine
from cupola.errors import DownloadError, ModelFormatError, RequestError
from cupola.frontend import ChatPrompt, GenerateRequest, Message, Sampling, TurnFinished
from cupola.settings import CacheSettings, ModelSettings
from cupola_plugins import local
from cupola_plugins.filesystem import FilesystemCache
from cupola_plugins.local import LocalModels
from genai_folders import genai_folder
from tiny_model import sentencepiece_gguf, tiny_gguf, write_tiny_gguf

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(tmp_path):
    settings = Settings(
        cache=CacheSettings(dir=str(tmp_path / "cache")), models=ModelSettings(context_length=256, ttl_s=0)
    )
    async with open_engine(settings) as engine:
        yield engine


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("cupola.manifest.json", "inference_model.json")
    }


def left_over(cache):
    """What a failed import left in a cache, beside lock files."""
    return [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def hub_snapshot(cache):
    """A model as Hugging Face's cache holds it: a folder of symbolic links to blobs."""
    original = genai_folder(cache / "original", tokenizer_config__json='{"chat_template": "{{ messages }}"}')
    snapshot = cache / "models--acme--Tiny-ONNX" / "snapshots" / "0123abc"
    blobs = cache / "models--acme--Tiny-ONNX" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(original.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_the_hook_catalog_sources_contributes_it():
    (source,) = local.catalog_sources(Settings())
    assert isinstance(source, LocalModels)


async def test_an_added_folder_is_listed_and_found_by_its_alias(engine, tmp_path):
    folder = genai_folder(tmp_path / "mine")
    events = []
    cached = await engine.import_model(folder, ImportOptions(alias="my-own"), events.append)
    assert contents(cached.path) == contents(folder)
    assert (events[-1].phase, events[-1].done, events[-1].total) == ("import", events[-1].total, cached.size_bytes)
    status = await engine.resolve("MY-OWN")
    assert (status.info.id, status.cached) == ("mine-generic-cpu:1", True)
    assert [each.info.id for each in await engine.cached()] == ["mine-generic-cpu:1"]
    (result,) = await engine.cache.verify(None, lambda event: None)
    assert (result.faults, result.has_digests) == ((), True)


@pytest.mark.parametrize("link", [True, False])
async def test_files_are_shared_only_on_request(engine, tmp_path, link):
    folder = genai_folder(tmp_path / "mine")
    cached = await engine.import_model(folder, ImportOptions(link=link))
    assert (folder / "model.onnx").samefile(cached.path / "model.onnx") is link


async def test_where_files_cannot_be_shared_they_are_copied(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    folder = genai_folder(tmp_path / "mine")
    cached = await engine.import_model(folder, ImportOptions(link=True))
    assert contents(cached.path) == contents(folder)


@pytest.mark.parametrize("link", [True, False])
async def test_symbolic_links_of_hugging_faces_cache_become_plain_files(engine, tmp_path, link):
    snapshot = hub_snapshot(tmp_path / "hub")
    cached = await engine.import_model(snapshot, ImportOptions(link=link))
    assert cached.info.id == "Tiny-ONNX-generic-cpu:1"
    assert cached.path.parent.name == "acme"
    assert not any(path.is_symlink() for path in cached.path.rglob("*"))
    assert contents(cached.path) == contents(snapshot)


async def test_removing_an_added_model_leaves_the_folder_it_came_from(engine, tmp_path):
    folder = genai_folder(tmp_path / "mine")
    before = contents(folder)
    await engine.import_model(folder, ImportOptions(link=True))
    assert await engine.remove("mine")
    assert await engine.cached() == []
    assert contents(folder) == before


@pytest.mark.parametrize("gguf", [tiny_gguf(), sentencepiece_gguf()], ids=["byte-level llama", "sentencepiece gemma"])
async def test_a_gguf_file_becomes_a_model_that_answers(engine, tmp_path, gguf):
    source = gguf.write(tmp_path / "Tiny-Q8_0.gguf")
    events = []
    cached = await engine.import_model(source, ImportOptions(), events.append)
    assert (cached.info.id, cached.info.task) == ("Tiny-generic-cpu:1", "chat-completion")
    assert cached.size_bytes == pytest.approx(cached.info.size_bytes, rel=0.5)
    assert events[-1].unit == "layers"
    request = GenerateRequest(
        "tiny", ChatPrompt((Message("user", "hello"),)), sampling=Sampling(temperature=0.0), max_tokens=4
    )
    async with engine.generate(request) as generation:
        events = [event async for event in generation]
    assert isinstance(events[-1], TurnFinished)
    assert events[-1].usage.completion_tokens > 0


async def test_the_layout_of_the_options_is_used(engine, tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    small = await engine.import_model(source, ImportOptions(name="small", layout="int4-blocks"))
    large = await engine.import_model(source, ImportOptions(name="large", layout="int8-blocks"))
    sizes = [(model.path / "model.onnx.data").stat().st_size for model in (small, large)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layout": "int3"}, "int8-rows"),
        ({"name": "taken"}, "The name is taken by 'taken-generic-cpu:1'"),
        ({"name": "TAKEN"}, "The name is taken by 'taken-generic-cpu:1'"),
    ],
)
async def test_import_options_that_cannot_be_met_are_refused(engine, tmp_path, options, reason):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    await engine.import_model(genai_folder(tmp_path / "taken"), ImportOptions())
    with pytest.raises((ModelFormatError, RequestError), match=reason):
        await engine.import_model(source, ImportOptions(**options))
    assert len(await engine.cached()) == 1


async def test_a_folder_takes_no_layout(engine, tmp_path):
    with pytest.raises(ModelFormatError, match="a model already"):
        await engine.import_model(genai_folder(tmp_path / "mine"), ImportOptions(layout="int8-rows"))


async def test_an_architecture_that_is_not_supported_is_named_and_leaves_nothing(engine, tmp_path):
    gguf = tiny_gguf()
    gguf.metadata["general.architecture"] = "mamba"
    source = gguf.write(tmp_path / "mamba.gguf")
    with pytest.raises(ModelFormatError, match="'mamba'.*llama"):
        await engine.import_model(source, ImportOptions())
    assert left_over(tmp_path / "cache") == []


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 64, b"PK\3\4", b""])
async def test_other_files_are_refused_with_what_would_do(engine, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"GGUF|damaged"):
        await engine.import_model(tmp_path / "file", ImportOptions())
    assert left_over(tmp_path / "cache") == []


async def test_a_cancelled_import_leaves_no_model_and_the_next_one_starts_afresh(engine, tmp_path):
    folder = genai_folder(tmp_path / "mine")
    with anyio.CancelScope() as scope:
        await engine.import_model(folder, ImportOptions(), lambda event: scope.cancel())
    assert await engine.cached() == []
    (folder / "model.onnx").write_bytes(b"changed meanwhile")
    cached = await engine.import_model(folder, ImportOptions())
    assert (cached.path / "model.onnx").read_bytes() == b"changed meanwhile"


async def test_what_was_not_offered_cannot_be_fetched(tmp_path):
    offered, other = LocalModels(), LocalModels()
    info = await offered.claim(genai_folder(tmp_path / "mine"), ImportOptions())
    store = FilesystemCache(tmp_path / "cache")
    async with await store.reserve(info) as staging:
        with pytest.raises(DownloadError, match="from this machine"):
            await other.fetch(info, staging, None, lambda event: None)


async def test_a_source_that_vanishes_is_an_error_of_words(engine, tmp_path):
    source = LocalModels()
    folder = genai_folder(tmp_path / "mine")
    info = await source.claim(folder, ImportOptions())
    (folder / "model.onnx").unlink()
    (folder / "genai_config.json").unlink()
    folder.rmdir()
    store = FilesystemCache(tmp_path / "cache")
    async with await store.reserve(info) as staging:
        await source.fetch(info, staging, None, lambda event: None)
        with pytest.raises(ModelFormatError, match=r"genai_config\.json"):
            await staging.commit()
