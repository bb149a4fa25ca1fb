import contextlib
import errno
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.catalog import ProgressEvent
from cupola.errors import CacheError, DiskFullError, ModelFormatError
from cupola_plugins.gguf import Layout, files
from cupola_plugins.gguf.importer import import_gguf
from cupola_plugins.gguf.onnx_model import WeightsFile
from tiny_model import TinySizes, tiny_gguf, write_tiny_gguf, write_tiny_model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("layout", Layout)
def test_an_import_writes_these_files_and_no_others(source, tmp_path, layout):
    import_gguf(source, tmp_path / "new" / "folder", layout=layout)
    assert names(tmp_path / "new" / "folder") == sorted(files.ALL)


def test_the_same_source_gives_the_same_files(source, tmp_path):
    for name in "ab":
        import_gguf(source, tmp_path / name)
    for name in files.ALL:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_other_files_in_the_folder_are_left_alone(source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / files.GRAPH).write_text("from a broken attempt")
    import_gguf(source, tmp_path)
    assert names(tmp_path) == sorted([*files.ALL, "notes.txt"])
    assert (tmp_path / files.GRAPH).stat().st_size > 1_000


def test_progress_counts_the_layers(tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf", TinySizes(layers=3))
    events = []
    import_gguf(source, tmp_path / "model", progress=events.append)
    assert events == [ProgressEvent("import", done, 3, "layers") for done in (1, 2, 3)]


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_a_truncated_file_leaves_nothing(source, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    content = source.read_bytes()
    cut = folder / "cut.gguf"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ModelFormatError):
        import_gguf(cut, folder)
    assert names(folder) == ["cut.gguf"]


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), min_size=1))
@settings(deadline=None, max_examples=60)
def test_a_damaged_file_is_imported_whole_or_leaves_nothing(source, tmp_path_factory, damage):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(source.read_bytes())
    for place, replacement in damage:
        start = int(place * (len(content) - len(replacement)))
        content[start : start + len(replacement)] = replacement
    (folder / "file").write_bytes(content)
    expected = ["file"]
    with contextlib.suppress(ModelFormatError):
        import_gguf(folder / "file", folder)
        expected = ["file", *files.ALL]
    assert names(folder) == sorted(expected)


def test_damage_found_on_the_way_leaves_nothing(tmp_path):
    gguf = tiny_gguf()
    gguf.tensors["blk.1.ffn_down.weight"] = gguf.tensors["blk.1.ffn_down.weight"] * float("nan")
    gguf.kinds.clear()
    source, folder = gguf.write(tmp_path / "tiny.gguf"), tmp_path / "model"
    with pytest.raises(ModelFormatError, match="infinite or NaN"):
        import_gguf(source, folder)
    assert names(folder) == []


def test_a_file_that_is_refused_at_once_costs_no_model_that_was_there(tmp_path):
    write_tiny_model(tmp_path)
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    with pytest.raises(ModelFormatError):
        import_gguf(tmp_path / "bad.gguf", tmp_path)
    assert set(files.ALL) <= set(names(tmp_path))


def test_a_disk_that_is_too_small_is_noticed_before_the_work(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))
    monkeypatch.setattr(WeightsFile, "add", lambda *_: pytest.fail("wrote all the same"))
    with pytest.raises(DiskFullError) as caught:
        import_gguf(source, tmp_path)
    assert caught.value.free_bytes == 1_000
    assert caught.value.needed_bytes > 100_000
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, CacheError)]
)
def test_a_disk_that_fails_on_the_way_leaves_nothing(source, tmp_path, monkeypatch, number, expected):
    add = WeightsFile.add

    def failing(self, name, array):
        if name.startswith("layer.1"):
            raise OSError(number, os.strerror(number))
        add(self, name, array)

    monkeypatch.setattr(WeightsFile, "add", failing)
    with pytest.raises(
        CacheError, match=os.strerror(number) if expected is CacheError else "Not enough disk space"
    ) as caught:
        import_gguf(source, tmp_path)
    assert type(caught.value) is expected
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error_of_the_cache(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError):
        import_gguf(source, tmp_path / "file" / "model")


def test_an_interrupt_leaves_nothing(source, tmp_path):
    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_gguf(source, tmp_path, progress=interrupt)
    assert names(tmp_path) == []


def test_too_little_memory_is_said_in_words(source, tmp_path, monkeypatch):
    def too_large(self, name, array):
        raise MemoryError

    monkeypatch.setattr(WeightsFile, "add", too_large)
    with pytest.raises(ModelFormatError, match="memory"):
        import_gguf(source, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are a matter of POSIX")
def test_a_real_limit_on_the_size_of_files_leaves_nothing(source, tmp_path):
    """The operating system itself refuses to write more than 64 kB."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "from cupola_plugins.gguf.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, str(source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert '"kind":"CacheError"' in done.stdout
    assert names(tmp_path) == []
