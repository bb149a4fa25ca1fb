"""Several processes on one cache, and processes that are killed."""

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from cupola.cache import ModelInfo
from cupola_plugins.filesystem import FilesystemCache
from file_server import FileServer

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
CONTENT = random.Random(2).randbytes(4_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="served", publisher="Publisher")


@pytest.fixture
def server():
    with FileServer({"genai_config.json": b"{}", "model.onnx": CONTENT}) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return FilesystemCache(tmp_path / "cache")


def downloading(store, server):
    script = HERE / "downloading_process.py"
    return subprocess.Popen([sys.executable, script, store.location, server.url, str(len(CONTENT)), SHA256])


def committing(store, last):
    command = [sys.executable, HERE / "committing_process.py", store.location, str(last)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)


async def test_two_processes_that_ask_for_one_model_share_one_download(server, store):
    server.hold_after["model.onnx"] = 1_000_000
    first = downloading(store, server)
    await anyio.to_thread.run_sync(server.holding.wait, 30)
    second = downloading(store, server)
    assert await store.list() == []
    server.go_on.set()
    codes = [await anyio.to_thread.run_sync(process.wait, 30) for process in (first, second)]
    assert codes == [0, 0]
    assert len(server.requests_for("genai_config.json")) == 1
    assert len(server.requests_for("model.onnx")) == len(set(server.requests_for("model.onnx"))) == 8
    assert len(await store.list()) == 1


async def test_after_kill_9_of_a_download_the_next_try_resumes_it(server, store):
    server.hold_after["model.onnx"] = 3_600_000
    process = downloading(store, server)
    await anyio.to_thread.run_sync(server.holding.wait, 30)
    process.kill()
    assert process.wait(10) != 0
    server.go_on.set()
    assert await store.list() == []
    assert downloading(store, server).wait(30) == 0
    assert server.requests_for("model.onnx")[8:] == ["bytes=3500000-3999999"]
    assert server.requests_for("genai_config.json") == [""]
    (cached,) = await store.list()
    assert (cached.path / "model.onnx").read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and waits for processes by descriptor")
async def test_killed_100_times_a_download_ends_whole_and_fetches_at_most_a_chunk_per_worker_again(server, store):
    script = HERE / "dying_downloads.py"
    command = [sys.executable, script, store.location, server.url, str(len(CONTENT)), SHA256, "100"]
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=110)
    )
    tries = json.loads(done.stdout)
    kills = sum(killed for killed, _ in tries)
    wholes = 2 + sum(bool(shown) for _, shown in tries)  # the first one, the last one
    assert kills == 100
    assert all(shown in ([], [MODEL.id]) for _, shown in tries)
    assert any(killed and not shown for killed, shown in tries)
    asked = [asked.removeprefix("bytes=").split("-") for asked in server.requests_for("model.onnx")]
    fetched = sum(int(end) + 1 - int(start) for start, end in asked)
    assert fetched <= wholes * len(CONTENT) + kills * 4 * 100_000
    (cached,) = await store.list()
    assert (cached.path / "model.onnx").read_bytes() == CONTENT


async def test_a_process_killed_anywhere_in_a_commit_leaves_a_whole_model_or_a_whole_staging_folder(tmp_path):
    touches = int(committing(FilesystemCache(tmp_path / "unharmed"), 0).stdout)
    assert touches > 10
    outcomes = set()
    for last in sorted({1, touches, *range(2, touches, max(1, touches // 10))}):
        store = FilesystemCache(tmp_path / f"killed-{last}")
        assert committing(store, last).returncode == 9
        visible = await store.list()
        if not visible:
            with anyio.fail_after(5):
                staging = await store.reserve(MODEL)
            await staging.commit()
        outcomes.add(bool(visible))
        (cached,) = await store.list()
        assert (cached.path / "model.onnx").read_bytes() == b"\1" * 10_000
        assert (cached.path / "v1" / "tokenizer.json").read_bytes() == b"{ }"
    assert False in outcomes
