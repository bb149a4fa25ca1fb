"""File names of catalogs, which must not leave the model's folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.downloads.remote_files import MODEL, ignore, remote
from cupola.catalog import RemoteFile
from cupola.downloads.files import target_paths
from cupola.errors import DownloadError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def test_a_name_that_leaves_the_folder_is_refused_before_any_request(server, downloader, tmp_path):
    bad = RemoteFile("../up", 2, f"{server.url}/genai_config.json")
    with pytest.raises(DownloadError, match=r"\.\./up"):
        await downloader.fetch([remote(server, "model.onnx"), bad], MODEL, tmp_path / "in", ignore)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "/etc/x", "..", "a/../../up", "a/..", "C:/x", "C:x", "a\\b", "\\\\host\\x"])
def test_names_that_leave_the_folder_on_any_system_are_refused(name):
    with pytest.raises(DownloadError):
        target_paths([RemoteFile(name, 1, "http://127.0.0.1/")], MODEL.id, Path("folder"))


@pytest.mark.parametrize("name", ["./a", "a//b", "a/", "a:stream", "a\0b", "a\nb", "dot.", "space ", "what?", "x.PART"])
def test_names_with_a_special_meaning_on_some_system_are_refused(name):
    with pytest.raises(DownloadError):
        target_paths([RemoteFile(name, 1, "http://127.0.0.1/")], MODEL.id, Path("folder"))


@given(st.text(st.sampled_from("ab./\\: C~"), max_size=12))
def test_no_accepted_name_leaves_the_folder(name):
    folder = Path("/some/where/folder")
    try:
        ((_, target),) = target_paths([RemoteFile(name, 1, "http://127.0.0.1/")], MODEL.id, folder)
    except DownloadError:
        return
    assert Path(os.path.normpath(target)).is_relative_to(folder)
    assert Path(os.path.normpath(target)) != folder


async def test_a_name_that_is_listed_twice_is_refused(server, downloader, tmp_path):
    twice = RemoteFile("GENAI_config.json", 2, f"{server.url}/genai_config.json")
    with pytest.raises(DownloadError, match="twice"):
        await downloader.fetch([remote(server, "genai_config.json"), twice], MODEL, tmp_path, ignore)
