"""`acquire` downloads a model from a source into a store, completely or not at all."""

import hashlib

import anyio
import pytest

from cupola import CupolaError
from cupola.catalog import CatalogSource, RemoteFile
from cupola.downloads import HttpDownloader, acquire
from cupola.errors import DigestMismatchError, DownloadError, ModelFormatError
from cupola.frontend import ModelInfo
from cupola.settings import DownloadSettings
from cupola_plugins.filesystem import FilesystemCache
from file_server import FileServer

pytestmark = pytest.mark.anyio

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="served", publisher="Publisher")
FILES = {"genai_config.json": b"{}", "model.onnx": b"\1" * 1_500_000}


class Served(CatalogSource):
    """A source whose files have URLs."""

    name = "served"

    def __init__(self, url):
        self.url = url

    async def models(self):
        return [MODEL]

    async def files(self, model):
        return [
            RemoteFile(path, len(content), f"{self.url}/{path}", hashlib.sha256(content).hexdigest())
            for path, content in FILES.items()
        ]


class Faulty(Served):
    """A source that stages a file and then raises an error."""

    def __init__(self, error):
        super().__init__("")
        self.error = error

    async def fetch(self, model, staging, downloader, progress):
        (staging.path / "useful.part").write_bytes(b"1")
        raise self.error


@pytest.fixture
def server():
    with FileServer(FILES) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return FilesystemCache(tmp_path / "cache")


async def brought(source, store):
    downloader = HttpDownloader(DownloadSettings(workers=1, chunk_mb=0.5, retries=0))
    return await acquire(MODEL, source, store, downloader, lambda event: None)


async def staged(store):
    """Return the files that the next reservation finds; fails if the last one was not released."""
    with anyio.fail_after(5):
        staging = await store.reserve(MODEL)
    names = sorted(path.name for path in staging.path.iterdir())
    await staging.release()
    return names


async def test_a_model_is_downloaded_into_the_store(server, store):
    cached = await brought(Served(server.url), store)
    assert {path: (cached.path / path).read_bytes() for path in FILES} == FILES
    assert await store.find(MODEL.id) == cached


async def test_a_cached_model_needs_no_source(server, store):
    cached = await brought(Served(server.url), store)
    assert await brought(Faulty(AssertionError("asked a source")), store) == cached


async def test_concurrent_tasks_share_one_download(server, store):
    results = []

    async def ask():
        results.append(await brought(Served(server.url), store))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
    assert len(results) == 4
    assert len({result.path for result in results}) == 1
    assert len(server.requests_for("model.onnx")) == 3


async def test_an_unexpected_error_of_a_source_becomes_a_download_error_that_names_it(store):
    with pytest.raises(DownloadError, match="'served' has a fault: KeyError: 'x'") as caught:
        await brought(Faulty(KeyError("x")), store)
    assert isinstance(caught.value.__cause__, KeyError)
    assert await staged(store) == ["useful.part"]


@pytest.mark.parametrize(
    "error",
    [
        DownloadError(model=MODEL.id, detail="no"),
        DigestMismatchError(model=MODEL.id, detail="", file="a", expected="b", actual="c"),
    ],
)
async def test_errors_of_cupola_propagate_and_keep_staged_files(store, error):
    with pytest.raises(CupolaError) as caught:
        await brought(Faulty(error), store)
    assert caught.value is error
    assert await staged(store) == ["useful.part"]


async def test_unusable_files_are_discarded(store):
    with pytest.raises(ModelFormatError):
        await brought(Faulty(ModelFormatError(path="x.gguf", detail="truncated")), store)
    assert await staged(store) == []


async def test_a_source_that_fetches_no_model_is_refused(store):
    class Empty(Served):
        async def fetch(self, model, staging, downloader, progress):
            (staging.path / "README.md").write_text("nothing else")

    with pytest.raises(ModelFormatError, match="genai_config"):
        await brought(Empty(""), store)
    assert await store.list() == []
    assert await staged(store) == []


async def test_an_interrupted_download_is_not_cached_and_the_next_attempt_resumes_it(server, store):
    server.drop_after["model.onnx"] = 1_100_000
    with pytest.raises(DownloadError):
        await brought(Served(server.url), store)
    assert await store.list() == []
    cached = await brought(Served(server.url), store)
    assert (cached.path / "model.onnx").read_bytes() == FILES["model.onnx"]
    assert server.requests_for("genai_config.json") == [""]
    assert server.requests_for("model.onnx")[1].startswith("bytes=")


async def test_a_corrupted_download_is_not_cached_and_the_next_attempt_succeeds(server, store):
    server.files["model.onnx"] = b"\2" * 1_500_000
    with pytest.raises(DigestMismatchError):
        await brought(Served(server.url), store)
    assert await store.list() == []
    server.files["model.onnx"] = FILES["model.onnx"]
    await brought(Served(server.url), store)
    assert len(await store.list()) == 1


async def test_a_cancelled_download_releases_its_reservation(server, store):
    server.hold_after["model.onnx"] = 1_200_000
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(brought, Served(server.url), store)
        await anyio.to_thread.run_sync(server.holding.wait, 5)
        tasks.cancel_scope.cancel()
    server.go_on.set()
    assert "genai_config.json" in await staged(store)
    await brought(Served(server.url), store)
