"""The folder behind the store: bounded, whole or not at all, and private."""

import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola_server.openai.errors import ResponseStoreError
from cupola_server.openai.responses.store import RecordFolder

KEYS = [f"resp_{number:08x}" for number in range(6)]
SECOND = 1_000_000_000


class Clock:
    def __init__(self):
        self.now_ns = 1_700_000_000 * SECOND

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path, clock):
    return RecordFolder(tmp_path / "made" / "responses", limit=3, ttl_s=100, clock=clock)


def test_a_record_is_found_again_and_in_another_service_too(folder, clock, tmp_path):
    folder.put(KEYS[0], b"one")
    assert folder.get(KEYS[0]) == b"one"
    other = RecordFolder(tmp_path / "made" / "responses", limit=3, ttl_s=100, clock=clock)
    assert other.get(KEYS[0]) == b"one"


def test_the_last_write_of_a_key_counts(folder):
    folder.put(KEYS[0], b"one")
    folder.put(KEYS[0], b"two")
    assert folder.get(KEYS[0]) == b"two"


@pytest.mark.parametrize(
    "key", ["", "..", "../resp_00000000", "resp_", "resp_xyz", "resp_00000000/..", "a\0b", "x" * 999]
)
def test_what_is_no_key_is_not_found_and_touches_no_file(folder, tmp_path, key):
    (tmp_path / "resp_00000000.json").write_bytes(b"outside")
    folder.put(KEYS[1], b"one")
    assert folder.get(key) is None
    assert not folder.delete(key)


def test_deleting_tells_whether_there_was_something(folder):
    assert not folder.delete(KEYS[0])
    folder.put(KEYS[0], b"one")
    assert folder.delete(KEYS[0])
    assert not folder.delete(KEYS[0])
    assert folder.get(KEYS[0]) is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_user_may_read_it(folder, tmp_path):
    folder.put(KEYS[0], b"one")
    path = tmp_path / "made" / "responses"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()] == [0o600]


def test_a_record_past_its_life_is_gone_and_its_file_is_removed(folder, clock, tmp_path):
    folder.put(KEYS[0], b"one")
    clock.now_ns += 50 * SECOND
    folder.put(KEYS[1], b"two")
    clock.now_ns += 50 * SECOND
    assert folder.get(KEYS[0]) is None
    assert folder.get(KEYS[1]) == b"two"
    clock.now_ns += 50 * SECOND
    folder.put(KEYS[2], b"three")
    assert [file.stem for file in (tmp_path / "made" / "responses").iterdir()] == [KEYS[2]]


def test_a_folder_that_cannot_be_made_is_explained_without_its_path(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    folder = RecordFolder(tmp_path / "file", limit=3, ttl_s=100)
    for call in (folder.prepare, lambda: folder.put(KEYS[0], b"one")):
        with pytest.raises(ResponseStoreError) as caught:
            call()
        assert str(tmp_path) not in str(caught.value)
        assert "responses.dir" in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_failed_write_leaves_the_earlier_record_and_no_rubbish(folder, tmp_path, monkeypatch):
    folder.put(KEYS[0], b"one")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(ResponseStoreError, match="no space left"):
        folder.put(KEYS[0], b"two")
    assert folder.get(KEYS[0]) == b"one"
    assert len(list((tmp_path / "made" / "responses").iterdir())) == 1


def test_files_of_others_are_left_alone(folder, clock, tmp_path):
    path = tmp_path / "made" / "responses"
    folder.put(KEYS[0], b"one")
    others = [path / "notes.json", path / "resp_.json", path / "download.partial", path / "resp_00000000.json.bak"]
    for other in others:
        other.write_bytes(b"mine")
        os.utime(other, (0, 0))
    for key in KEYS:
        folder.put(key, b"more")
    assert all(other.read_bytes() == b"mine" for other in others)
    assert len(list(path.iterdir())) == len(others) + 3


CRASH = """
import os, sys
from pathlib import Path
from cupola_server.openai.responses.store import RecordFolder
Path.replace = lambda self, target: os._exit(9)
RecordFolder(Path(sys.argv[1]), limit=3, ttl_s=100).put("resp_00000000", b"two")
"""


def test_a_crash_between_writing_and_renaming_leaves_the_earlier_record_and_is_swept_up_later(tmp_path):
    clock = Clock()
    folder = RecordFolder(tmp_path, limit=3, ttl_s=1e12, clock=clock)
    folder.put(KEYS[0], b"one")
    run = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], check=False, timeout=30)
    assert run.returncode == 9
    [partial] = tmp_path.glob("*.partial")
    assert partial.read_bytes() == b"two"
    assert folder.get(KEYS[0]) == b"one"
    clock.now_ns = partial.stat().st_mtime_ns + 60 * SECOND
    folder.put(KEYS[1], b"another service may still be writing it")
    assert partial.exists()
    clock.now_ns += 3600 * SECOND
    folder.put(KEYS[1], b"now it is rubbish")
    assert not partial.exists()
    assert folder.get(KEYS[0]) == b"one"


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.binary(max_size=4)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("wait"), st.integers(0, 60)),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=25), limit=st.integers(1, 4))
def test_it_always_holds_the_newest_records_that_are_not_too_old(tmp_path_factory, steps, limit):
    path, clock = tmp_path_factory.mktemp("law"), Clock()
    folder = RecordFolder(path, limit=limit, ttl_s=100, clock=clock)
    kept = {}  # in the order of writing: key -> (time, data)
    for step, *arguments in steps:
        if step == "put":
            key, data = arguments
            folder.put(key, data)
            kept.pop(key, None)
            kept[key] = (clock.now_ns, data)
            kept = dict(list(kept.items())[-limit:])
        elif step == "delete":
            expected = arguments[0] in kept
            assert folder.delete(arguments[0]) == expected
            kept.pop(arguments[0], None)
        elif step == "wait":
            clock.now_ns += arguments[0] * SECOND + SECOND // 2
        else:
            clock.now_ns += 1_000_000
            folder = RecordFolder(path, limit=limit, ttl_s=100, clock=clock)
        kept = {key: record for key, record in kept.items() if clock.now_ns - record[0] < 100 * SECOND}
        assert len(list(path.glob("*.json"))) <= limit
        assert {key: folder.get(key) for key in KEYS} == {key: kept.get(key, (0, None))[1] for key in KEYS}
