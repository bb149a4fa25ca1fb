"""One cache for several users, real ones where the tests run as root, and caches that cannot be written."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cupola.cache import ModelInfo
from cupola.testing.caches import FILES, MODEL, commit_model, write_files
from cupola_plugins.filesystem import FilesystemCache

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="permissions of files are a matter of POSIX"),
]
SCRIPT = Path(__file__).with_name("another_user.py")
NOBODY = 65_534


@pytest.fixture
def place():
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="cupola-users-"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def another_user(place, scenario):
    """Run a scenario as somebody else; as ourselves where we may not become anybody else."""
    uid = NOBODY if os.getuid() == 0 else os.getuid()
    own = place / "own"
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    command = [sys.executable, SCRIPT, str(uid), place / "cache", own, scenario]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    return json.loads(done.stdout)


async def test_a_cache_that_cannot_be_written_is_listed_verified_and_exported_from(place):
    store = FilesystemCache(place / "cache")
    cached = await commit_model(store)
    for path in [store.location, *store.location.rglob("*")]:
        if path.is_dir():
            path.chmod(0o555)
    found = another_user(place, "read")
    assert (found["listed"], found["found"], found["faults"]) == (MODEL.id, True, [])
    assert found["exported_bytes"] > cached.size_bytes
    assert len(found["refusals"]) == 2
    for refusal in found["refusals"]:
        assert str(store.location) in refusal
        assert "cache.dir" in refusal


async def test_what_one_users_download_left_another_one_goes_on_with(place):
    (place / "cache").mkdir()
    (place / "cache").chmod(0o777)
    store = FilesystemCache(place / "cache")
    async with await store.reserve(MODEL) as staging:
        write_files(staging.path, {"model.onnx.part": b"1234", "done.bin": b"5678"})
        (staging.path / "model.onnx.part").chmod(0o666)
        (staging.path / "done.bin").chmod(0o644)
    found = another_user(place, "go_on")
    assert "model.onnx.part" in found["left"]
    if os.getuid() == 0:
        assert "done.bin" not in found["left"]  # nothing of it could be changed or relied upon
    assert found["listed"] == [MODEL.id]
    (cached,) = await store.list()
    assert {name: (cached.path / name).read_bytes() for name in FILES} == FILES
    assert await store.remove(MODEL.id)
    await commit_model(store, ModelInfo(id="next:1", alias="next", source="test", publisher="Publisher"))


async def test_a_private_cache_stays_private(place):
    (place / "cache").mkdir(mode=0o700)
    store = FilesystemCache(place / "cache")
    await commit_model(store)
    assert not any(path.stat().st_mode & 0o022 for path in store.location.rglob("*"))
