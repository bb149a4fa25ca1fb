"""The HTTP downloader against a loopback server with the faults of real ones."""

import hashlib
import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola import CacheError, DigestMismatchError, DiskFullError, DownloadError, ModelInfo, RemoteFile
from cupola.downloads import HttpDownloader
from cupola.downloads.partial import PartialFile
from cupola.downloads.targets import targets
from cupola.settings import DownloadSettings
from file_server import FileServer

pytestmark = pytest.mark.anyio

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="test", publisher="Publisher")
BIG = random.Random(1).randbytes(3_000_000)
FILES = {"genai_config.json": b"{}", "model.onnx": BIG, "deep/er/tokenizer.json": b'{"a": 1}', "empty.txt": b""}
SECRET = "?sig=TOPSECRET"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def server():
    with FileServer(FILES) as server:
        yield server


@pytest.fixture
def downloader():
    """One that fetches chunk after chunk and tries nothing twice."""
    return downloader_with()


def downloader_with(**changes):
    defaults = {"workers": 1, "chunk_mb": 0.5, "retries": 0, "retry_pause_s": 0.01, "stall_timeout_s": 5.0}
    return HttpDownloader(DownloadSettings(**{**defaults, **changes}))


def ignore(event):
    pass


def remote(server, path, *, sha256=True, content=None):
    content = FILES[path] if content is None else content
    digest = hashlib.sha256(content).hexdigest() if sha256 else ""
    return RemoteFile(path, len(content), f"{server.url}/{path}{SECRET}", digest)


def asked_bytes(server, path):
    ranges = [asked.removeprefix("bytes=").split("-") for asked in server.requests_for(path)]
    return sum(int(end) + 1 - int(start) for start, end in ranges)


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_every_file_arrives_whole_in_its_place(server, downloader, tmp_path):
    events = []
    await downloader.fetch([remote(server, path) for path in FILES], MODEL, tmp_path / "new", events.append)
    assert files_in(tmp_path / "new") == FILES
    total = sum(len(content) for content in FILES.values())
    assert {(event.phase, event.total) for event in events} == {("download", total)}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert (events[0].done, events[-1].done) == (0, total)


async def test_what_is_there_whole_is_not_fetched_again(server, downloader, tmp_path):
    files = [remote(server, path) for path in FILES]
    await downloader.fetch(files, MODEL, tmp_path, ignore)
    server.requests.clear()
    events = []
    await downloader.fetch(files, MODEL, tmp_path, events.append)
    assert server.requests == []
    assert events[-1].done == events[-1].total


async def test_a_file_that_was_damaged_since_is_fetched_again(server, downloader, tmp_path):
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    (tmp_path / "model.onnx").write_bytes(bytes(len(BIG)))
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert (tmp_path / "model.onnx").read_bytes() == BIG


async def test_an_interrupted_download_asks_for_the_rest_and_ends_whole(server, downloader, tmp_path):
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


async def test_a_file_that_changed_meanwhile_is_taken_from_its_start(server, downloader, tmp_path):
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError):
        await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    changed = BIG[::-1]
    server.files["model.onnx"], server.etag = changed, '"2"'
    await downloader.fetch([remote(server, "model.onnx", content=changed)], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": changed}


@pytest.mark.parametrize(("etag", "resumes"), [('"1"', True), ("", False), ('W/"1"', False)])
async def test_without_a_digest_only_a_named_version_is_resumed(server, downloader, tmp_path, etag, resumes):
    server.etag = etag
    server.drop_after["model.onnx"] = 2_100_000
    with pytest.raises(DownloadError):
        await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    server.requests.clear()
    await downloader.fetch([remote(server, "model.onnx", sha256=False)], MODEL, tmp_path, ignore)
    assert (server.requests_for("model.onnx")[0] == "bytes=2000000-2499999") is resumes
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_a_corrupted_file_is_deleted_and_named(server, downloader, tmp_path):
    server.files["model.onnx"] = BIG[:-1] + b"?"
    with pytest.raises(DigestMismatchError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert caught.value.file == "model.onnx"
    assert caught.value.expected == f"sha256 {hashlib.sha256(BIG).hexdigest()}"
    assert files_in(tmp_path) == {}
    server.files["model.onnx"] = BIG
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_a_part_that_was_corrupted_is_found_when_the_rest_arrives(server, downloader, tmp_path):
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
async def test_a_part_of_which_nothing_sure_is_known_is_dropped(server, downloader, tmp_path, left, sidecar):
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


async def test_a_part_that_is_complete_needs_no_request(server, downloader, tmp_path):
    file = remote(server, "model.onnx")
    part = PartialFile(file, tmp_path / "model.onnx", 1_000_000)
    while taken := part.take():
        start, end = part.bounds(taken[1])
        part.write(taken[0], start, BIG[start:end])
        part.mark(*taken)
    part.close()
    await downloader.fetch([file], MODEL, tmp_path, ignore)
    assert server.requests == []
    assert files_in(tmp_path) == {"model.onnx": BIG}


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_an_http_error_names_the_status_and_the_url_without_its_query(server, downloader, tmp_path, status):
    server.status["model.onnx"] = status
    with pytest.raises(DownloadError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert f"{server.url}/model.onnx" in str(caught.value)
    assert str(status) in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


async def test_chunks_of_one_file_are_fetched_at_the_same_time(server, tmp_path):
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


async def test_files_come_smallest_first_and_at_the_same_time(server, tmp_path):
    await downloader_with(workers=4).fetch([remote(server, path) for path in FILES], MODEL, tmp_path, ignore)
    order = [path for path, _ in server.requests if path != "model.onnx"]
    assert set(order) == {"genai_config.json", "deep/er/tokenizer.json"}
    assert server.requests[-1][0] == "model.onnx"
    assert files_in(tmp_path) == FILES


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_fault_that_may_pass_is_tried_again_after_as_long_as_the_server_says(server, tmp_path, status):
    server.faults["model.onnx"] = [(status, {"Retry-After": "0"}), (status, {})]
    await downloader_with(retries=2).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_no_retry_comes_before_the_time_the_server_gave(server, tmp_path):
    server.faults["model.onnx"] = [(429, {"Retry-After": "1"})]
    started = time.monotonic()
    await downloader_with(retries=1).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert time.monotonic() - started >= 1


async def test_retries_come_to_an_end_and_the_error_counts_them(server, tmp_path):
    server.status["model.onnx"] = 503
    with pytest.raises(DownloadError, match=r"503 .*\(4 attempts in a row\)"):
        await downloader_with(retries=3).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert len(server.requests) == 4


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_dropped_connection_goes_on_where_it_broke_if_the_server_can(server, tmp_path, ranges):
    server.ranges = ranges
    server.drop_after["model.onnx"] = 1_234_567
    await downloader_with(retries=1, chunk_mb=8).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}
    assert len(server.requests) == 2


async def test_many_drops_are_no_failure_as_long_as_more_arrives(server, tmp_path):
    downloader = downloader_with(retries=1, chunk_mb=8)
    server.drops_every = 200_000
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}
    assert len(server.requests) >= 15


async def test_a_trickle_counts_as_a_stall(server, tmp_path):
    server.trickle_s = 0.05
    with pytest.raises(DownloadError, match="stalled"):
        await downloader_with(stall_timeout_s=0.3).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)


@pytest.mark.parametrize("workers", [1, 4])
async def test_an_expired_address_is_replaced_in_mid_download(server, tmp_path, workers):
    fresh = remote(server, "model.onnx")
    stale = msgspec.structs.replace(fresh, url=fresh.url.replace("TOPSECRET", "OLD"))
    server.refuse.add("sig=OLD")
    asked = []

    async def refresh():
        asked.append(True)
        return [fresh]

    await downloader_with(workers=workers).fetch([stale], MODEL, tmp_path, ignore, refresh=refresh)
    assert files_in(tmp_path) == {"model.onnx": BIG}
    assert len(asked) == 1


async def test_an_address_that_stays_refused_is_an_error(server, downloader, tmp_path):
    file = remote(server, "model.onnx")
    server.refuse.add("sig=TOPSECRET")

    async def refresh():
        return [file]

    for way in (refresh, None):
        with pytest.raises(DownloadError, match="403") as caught:
            await downloader.fetch([file], MODEL, tmp_path, ignore, refresh=way)
        assert "TOPSECRET" not in str(caught.value)


async def test_an_error_of_the_refresh_is_the_error_of_the_download(server, downloader, tmp_path):
    server.refuse.add("sig=TOPSECRET")

    async def refresh():
        raise DownloadError(model="x", detail="the registry is down")

    with pytest.raises(DownloadError, match="the registry is down"):
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore, refresh=refresh)


async def test_a_speed_limit_is_kept_to(server, tmp_path):
    started = time.monotonic()
    limited = downloader_with(workers=3, speed_limit_mbps=24.0, stall_timeout_s=0.3)
    await limited.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert time.monotonic() - started >= 0.9  # 24 Mbit in a second
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_room_is_looked_for_before_the_first_byte(server, downloader, tmp_path):
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


async def test_no_signature_gets_into_a_log(server, tmp_path, caplog):
    server.faults["model.onnx"] = [(503, {}), (404, {})]
    with caplog.at_level(logging.DEBUG), pytest.raises(DownloadError):
        await downloader_with(retries=1).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert "TOPSECRET" not in caplog.text


async def test_redirects_are_followed_and_an_endless_one_is_an_error(server, downloader, tmp_path):
    server.redirects["old"] = f"{server.url}/model.onnx"
    server.redirects["loop"] = f"{server.url}/loop"
    digest = hashlib.sha256(BIG).hexdigest()
    await downloader.fetch([RemoteFile("model.onnx", len(BIG), f"{server.url}/old", digest)], MODEL, tmp_path, ignore)
    with pytest.raises(DownloadError, match="redirects"):
        await downloader.fetch([RemoteFile("loop", 1, f"{server.url}/loop")], MODEL, tmp_path, ignore)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x?sig=TOPSECRET", "ftp://127.0.0.1/x", "nonsense", "http://[/x"])
async def test_an_address_that_leads_nowhere_is_a_download_error(downloader, tmp_path, url):
    with pytest.raises(DownloadError) as caught:
        await downloader.fetch([RemoteFile("x", 1, url)], MODEL, tmp_path, ignore)
    assert "TOPSECRET" not in str(caught.value)


async def test_a_server_that_falls_silent_is_given_up(server, tmp_path):
    server.hold_after["model.onnx"] = 1_100_000
    with pytest.raises(DownloadError, match="timeout"):
        await downloader_with(stall_timeout_s=0.2).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)


@pytest.mark.parametrize("workers", [1, 4])
async def test_cancelling_keeps_the_chunks_that_arrived_for_the_next_try(server, tmp_path, workers):
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


async def test_a_full_disk_is_told_with_the_room_that_is_missing(server, downloader, tmp_path):
    (tmp_path / "model.onnx.part").symlink_to("/dev/full")  # every write gets a real ENOSPC
    with pytest.raises(DiskFullError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert caught.value.needed_bytes == len(BIG)
    assert str(tmp_path) in str(caught.value)


async def test_a_folder_that_cannot_be_written_is_a_cache_error(server, downloader, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path / "file", ignore)
    assert "cache.dir" in str(caught.value)


async def test_a_broken_proxy_setting_is_explained(server, downloader, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
    with pytest.raises(DownloadError, match="proxy"):
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)


async def test_a_name_that_escapes_is_refused_before_anything_is_fetched(server, downloader, tmp_path):
    bad = RemoteFile("../up", 2, f"{server.url}/genai_config.json")
    with pytest.raises(DownloadError, match=r"\.\./up"):
        await downloader.fetch([remote(server, "model.onnx"), bad], MODEL, tmp_path / "in", ignore)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "/etc/x", "..", "a/../../up", "a/..", "C:/x", "C:x", "a\\b", "\\\\host\\x"])
def test_names_that_leave_the_folder_on_any_system_are_refused(name):
    with pytest.raises(DownloadError):
        targets([RemoteFile(name, 1, "http://127.0.0.1/")], MODEL.id, Path("folder"))


@pytest.mark.parametrize("name", ["./a", "a//b", "a/", "a:stream", "a\0b", "a\nb", "dot.", "space ", "what?", "x.PART"])
def test_names_that_mean_something_else_somewhere_are_refused(name):
    with pytest.raises(DownloadError):
        targets([RemoteFile(name, 1, "http://127.0.0.1/")], MODEL.id, Path("folder"))


@given(st.text(st.sampled_from("ab./\\: C~"), max_size=12))
def test_no_name_at_all_leads_out_of_the_folder(name):
    folder = Path("/some/where/folder")
    try:
        ((_, target),) = targets([RemoteFile(name, 1, "http://127.0.0.1/")], MODEL.id, folder)
    except DownloadError:
        return
    assert Path(os.path.normpath(target)).is_relative_to(folder)
    assert Path(os.path.normpath(target)) != folder


async def test_a_name_that_comes_twice_is_refused(server, downloader, tmp_path):
    twice = RemoteFile("GENAI_config.json", 2, f"{server.url}/genai_config.json")
    with pytest.raises(DownloadError, match="twice"):
        await downloader.fetch([remote(server, "genai_config.json"), twice], MODEL, tmp_path, ignore)


def test_wherever_the_connection_breaks_the_file_ends_whole_and_no_chunk_comes_twice(tmp_path_factory):
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


def test_importing_the_downloads_loads_no_http_client():
    code = "import sys, cupola.downloads; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
