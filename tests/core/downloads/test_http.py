"""The HTTP downloader against a loopback server: complete files, and resumed downloads."""

import hashlib
import subprocess
import sys
import time

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.downloads.remote_files import BIG, FILES, MODEL, asked_bytes, downloader_with, files_in, ignore, remote
from cupola.catalog import RemoteFile
from cupola.downloads.partial_file import PartialFile
from cupola.errors import DigestMismatchError, DiskFullError, DownloadError
from file_server import FileServer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def test_every_file_is_complete_at_its_path(server, downloader, tmp_path):
    events = []
    await downloader.fetch([remote(server, path) for path in FILES], MODEL, tmp_path / "new", events.append)
    assert files_in(tmp_path / "new") == FILES
    total = sum(len(content) for content in FILES.values())
    assert {(event.phase, event.total) for event in events} == {("download", total)}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert (events[0].done, events[-1].done) == (0, total)


async def test_complete_files_are_not_fetched_again(server, downloader, tmp_path):
    files = [remote(server, path) for path in FILES]
    await downloader.fetch(files, MODEL, tmp_path, ignore)
    server.requests.clear()
    events = []
    await downloader.fetch(files, MODEL, tmp_path, events.append)
    assert server.requests == []
    assert events[-1].done == events[-1].total


async def test_a_file_that_was_damaged_later_is_fetched_again(server, downloader, tmp_path):
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    (tmp_path / "model.onnx").write_bytes(bytes(len(BIG)))
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert (tmp_path / "model.onnx").read_bytes() == BIG


async def test_an_interrupted_download_requests_only_the_missing_bytes(server, downloader, tmp_path):
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert "/model.onnx" in str(caught.value)
    server.requests.clear()
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert server.requests_for("model.onnx") == ["bytes=2000000-2499999", "bytes=2500000-2999999"]
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_a_server_without_ranges_sends_everything_again(server, downloader, tmp_path):
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError):
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    server.ranges = False
    events = []
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, events.append)
    assert files_in(tmp_path) == {"model.onnx": BIG}
    assert events[-1].done == events[-1].total


async def test_a_file_that_changed_on_the_server_restarts(server, downloader, tmp_path):
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError):
        await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    changed = BIG[::-1]
    server.files["model.onnx"], server.etag = changed, '"2"'
    await downloader.fetch([remote(server, "model.onnx", content=changed)], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": changed}


@pytest.mark.parametrize(("etag", "resumes"), [('"1"', True), ("", False), ('W/"1"', False)])
async def test_without_a_digest_only_a_file_with_a_version_is_resumed(server, downloader, tmp_path, etag, resumes):
    server.etag = etag
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError):
        await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    server.requests.clear()
    await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    assert (server.requests_for("model.onnx")[0] == "bytes=2000000-2499999") is resumes
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_a_corrupted_file_is_deleted_and_named_in_the_error(server, downloader, tmp_path):
    server.files["model.onnx"] = BIG[:-1] + b"?"
    with pytest.raises(DigestMismatchError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert caught.value.file == "model.onnx"
    assert caught.value.expected == f"sha256 {hashlib.sha256(BIG).hexdigest()}"
    assert files_in(tmp_path) == {}
    server.files["model.onnx"] = BIG
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_a_corrupted_partial_file_is_detected_at_the_end(server, downloader, tmp_path):
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError):
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    with (tmp_path / "model.onnx.part").open("r+b") as part:
        part.write(b"?" * 1000)
    with pytest.raises(DigestMismatchError):
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("left", [b"", b"?" * 1000, BIG, BIG + b"?"])
@pytest.mark.parametrize("sidecar", [None, b"", b"{}\n111111", b'{"size_bytes":3000000'])
async def test_a_partial_file_with_an_invalid_sidecar_is_dropped(server, downloader, tmp_path, left, sidecar):
    (tmp_path / "model.onnx.part").write_bytes(left)
    if sidecar is not None:
        (tmp_path / "model.onnx.chunks.part").write_bytes(sidecar)
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("content", [BIG + b"?", BIG[:-1]], ids=["longer", "shorter"])
async def test_a_file_of_another_size_is_refused(server, downloader, tmp_path, content, announces):
    server.files["model.onnx"], server.announce_length = content, announces
    for _ in range(2):
        with pytest.raises(DownloadError) as caught:
            await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    assert "3,000,000 bytes" in str(caught.value)
    assert not (tmp_path / "model.onnx").exists()


async def test_a_complete_partial_file_needs_no_request(server, downloader, tmp_path):
    file = remote(server, "model.onnx")
    part = PartialFile(file, tmp_path / "model.onnx", 1_000_000)
    while chunk := part.next_chunk():
        start, end = part.bounds(chunk[1])
        part.write(chunk[0], start, BIG[start:end])
        part.mark_complete(*chunk)
    part.close()
    await downloader.fetch([file], MODEL, tmp_path, ignore)
    assert server.requests == []
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_chunks_of_one_file_are_fetched_in_parallel(server, tmp_path):
    server.hold_after["model.onnx"] = 100_000
    downloader = downloader_with(workers=3)
    arrived = anyio.Event()

    def tell(event):
        if event.done >= 2_500_000:
            arrived.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(downloader.fetch, [remote(server, "model.onnx")], MODEL, tmp_path, tell)
        with anyio.fail_after(10):
            await arrived.wait()  # though the first chunk is held
        server.go_on.set()
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_files_are_fetched_smallest_first_and_in_parallel(server, tmp_path):
    await downloader_with(workers=4).fetch([remote(server, path) for path in FILES], MODEL, tmp_path, ignore)
    order = [path for path, _ in server.requests if path != "model.onnx"]
    assert set(order) == {"genai_config.json", "deep/er/tokenizer.json"}
    assert server.requests[-1][0] == "model.onnx"
    assert files_in(tmp_path) == FILES


async def test_the_speed_limit_is_respected(server, tmp_path):
    started = time.monotonic()
    limited = downloader_with(workers=3, speed_limit_mbps=24.0, stall_timeout_s=0.3)
    await limited.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert time.monotonic() - started >= 0.9  # 24 Mbit in a second
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_disk_space_is_checked_before_the_first_request(server, downloader, tmp_path):
    with pytest.raises(DiskFullError) as caught:
        await downloader.fetch(
            [remote(server, "genai_config.json"), RemoteFile("x", 10**17, f"{server.url}/x")], MODEL, tmp_path, ignore
        )
    assert caught.value.needed_bytes == 10**17 + 2
    assert server.requests == []


@pytest.mark.parametrize("right", [True, False])
async def test_an_md5_digest_is_checked(server, downloader, tmp_path, right):
    digest = hashlib.md5(BIG if right else b"").hexdigest()
    file = RemoteFile("model.onnx", len(BIG), f"{server.url}/model.onnx", md5=digest)
    if right:
        await downloader.fetch([file], MODEL, tmp_path, ignore)
    else:
        with pytest.raises(DigestMismatchError, match="md5"):
            await downloader.fetch([file], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == ({"model.onnx": BIG} if right else {})


@pytest.mark.parametrize("workers", [1, 4])
async def test_cancelling_keeps_the_received_chunks_for_the_next_attempt(server, tmp_path, workers):
    downloader = downloader_with(workers=workers, stall_timeout_s=60.0)
    server.hold_after["model.onnx"] = 2_100_000
    with anyio.fail_after(20):  # far less than the stall that a read would wait for
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(downloader.fetch, [remote(server, "model.onnx")], MODEL, tmp_path, ignore)
            await anyio.to_thread.run_sync(server.holding.wait, 5)
            tasks.cancel_scope.cancel()
    assert not (tmp_path / "model.onnx").exists()
    server.go_on.set()
    server.requests.clear()
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert asked_bytes(server, "model.onnx") <= len(BIG) - 2_000_000 + (workers - 1) * 500_000
    assert files_in(tmp_path) == {"model.onnx": BIG}


def test_wherever_the_connection_breaks_the_file_becomes_complete_and_no_chunk_is_fetched_twice(tmp_path_factory):
    with FileServer({"model.onnx": BIG}) as server:

        @settings(max_examples=15, deadline=None)
        @given(st.lists(st.integers(0, len(BIG)), max_size=3))
        def check(breaks):
            folder = tmp_path_factory.mktemp("download")
            server.requests.clear()
            anyio.run(fetch_with_breaks, server, breaks, folder)
            assert files_in(folder) == {"model.onnx": BIG}
            assert asked_bytes(server, "model.onnx") <= len(BIG) + 500_000 * len(breaks)

        check()


async def fetch_with_breaks(server, breaks, folder):
    downloader = downloader_with()
    for count in breaks:
        server.drop_after["model.onnx"] = count
        try:
            await downloader.fetch([remote(server, "model.onnx")], MODEL, folder, ignore)
        except DownloadError:
            continue
    server.drop_after.clear()
    await downloader.fetch([remote(server, "model.onnx")], MODEL, folder, ignore)


def test_importing_downloads_does_not_import_httpx():
    code = "import sys, cupola.downloads; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
