"""Files that several processes share."""

import os
import stat
import sys

import pytest

from cupola.files import hold_lock, replace_file


def test_a_file_is_replaced_completely_and_no_temporary_file_remains(tmp_path):
    path = tmp_path / "new" / "file.json"
    replace_file(path, b"first, which is longer")
    replace_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_only_the_owner_can_read_a_replaced_file(tmp_path):
    replace_file(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_failed_replacement_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")

    def fail(descriptor, mode):
        os.close(descriptor)
        raise OSError("the disk failed")

    monkeypatch.setattr(os, "fdopen", fail)
    with pytest.raises(OSError, match="the disk failed"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_exclusive_until_it_is_released(tmp_path):
    path = tmp_path / "lock"
    with hold_lock(path, timeout_s=0), pytest.raises(TimeoutError, match="lock"), hold_lock(path, timeout_s=0.02):
        pass
    with hold_lock(path, timeout_s=0):
        assert path.exists()
