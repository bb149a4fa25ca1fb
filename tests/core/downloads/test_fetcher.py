"""Errors of servers, networks and disks: which are retried, and how the others are reported."""

import hashlib
import logging
import time

import msgspec
import pytest

from core.downloads.remote_files import BIG, MODEL, downloader_with, files_in, ignore, remote
from cupola.catalog import RemoteFile
from cupola.errors import CacheError, DiskFullError, DownloadError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_an_http_error_names_the_status_and_the_url_without_its_query(server, downloader, tmp_path, status):
    server.status["model.onnx"] = status
    with pytest.raises(DownloadError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert f"{server.url}/model.onnx" in str(caught.value)
    assert str(status) in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_transient_status_is_retried_after_the_servers_retry_after(server, tmp_path, status):
    server.faults["model.onnx"] = [(status, {"Retry-After": "0"}), (status, {})]
    await downloader_with(retries=2).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}


async def test_no_retry_is_sent_before_retry_after_has_passed(server, tmp_path):
    server.faults["model.onnx"] = [(429, {"Retry-After": "1"})]
    started = time.monotonic()
    await downloader_with(retries=1).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert time.monotonic() - started >= 1


async def test_the_number_of_retries_is_limited_and_in_the_error(server, tmp_path):
    server.status["model.onnx"] = 503
    with pytest.raises(DownloadError, match=r"503 .*\(4 attempts in a row\)"):
        await downloader_with(retries=3).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert len(server.requests) == 4


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_dropped_connection_is_resumed_at_its_offset_if_the_server_supports_ranges(server, tmp_path, ranges):
    server.ranges = ranges
    server.drop_after["model.onnx"] = 1_234_567
    await downloader_with(retries=1, chunk_mb=8).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}
    assert len(server.requests) == 2


async def test_any_number_of_drops_is_tolerated_as_long_as_data_arrives(server, tmp_path):
    downloader = downloader_with(retries=1, chunk_mb=8)
    server.drops_every = 200_000
    await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert files_in(tmp_path) == {"model.onnx": BIG}
    assert len(server.requests) >= 15


async def test_a_trickle_of_bytes_is_a_stall(server, tmp_path):
    server.trickle_s = 0.05
    with pytest.raises(DownloadError, match="stalled"):
        await downloader_with(stall_timeout_s=0.3).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)


@pytest.mark.parametrize("workers", [1, 4])
async def test_an_expired_url_is_replaced_during_the_download(server, tmp_path, workers):
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


async def test_a_url_that_is_refused_again_is_an_error(server, downloader, tmp_path):
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


async def test_no_signature_is_logged(server, tmp_path, caplog):
    server.faults["model.onnx"] = [(503, {}), (404, {})]
    with caplog.at_level(logging.DEBUG), pytest.raises(DownloadError):
        await downloader_with(retries=1).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert "TOPSECRET" not in caplog.text


async def test_redirects_are_followed_and_a_redirect_loop_is_an_error(server, downloader, tmp_path):
    server.redirects["old"] = f"{server.url}/model.onnx"
    server.redirects["loop"] = f"{server.url}/loop"
    digest = hashlib.sha256(BIG).hexdigest()
    await downloader.fetch([RemoteFile("model.onnx", len(BIG), f"{server.url}/old", digest)], MODEL, tmp_path, ignore)
    with pytest.raises(DownloadError, match="redirects"):
        await downloader.fetch([RemoteFile("loop", 1, f"{server.url}/loop")], MODEL, tmp_path, ignore)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x?sig=TOPSECRET", "ftp://127.0.0.1/x", "nonsense", "http://[/x"])
async def test_an_unreachable_or_invalid_url_is_a_download_error(downloader, tmp_path, url):
    with pytest.raises(DownloadError) as caught:
        await downloader.fetch([RemoteFile("x", 1, url)], MODEL, tmp_path, ignore)
    assert "TOPSECRET" not in str(caught.value)


async def test_a_server_that_stops_sending_is_a_timeout(server, tmp_path):
    server.hold_after["model.onnx"] = 1_100_000
    with pytest.raises(DownloadError, match="timeout"):
        await downloader_with(stall_timeout_s=0.2).fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)


async def test_a_full_disk_is_reported_with_the_missing_space(server, downloader, tmp_path):
    (tmp_path / "model.onnx.part").symlink_to("/dev/full")  # every write gets a real ENOSPC
    with pytest.raises(DiskFullError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
    assert caught.value.needed_bytes == len(BIG)
    assert str(tmp_path) in str(caught.value)


async def test_a_folder_that_is_not_writable_is_a_cache_error(server, downloader, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError) as caught:
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path / "file", ignore)
    assert "cache.dir" in str(caught.value)


async def test_an_unsupported_proxy_variable_is_an_error_that_names_it(server, downloader, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
    with pytest.raises(DownloadError, match="proxy"):
        await downloader.fetch([remote(server, "model.onnx")], MODEL, tmp_path, ignore)
