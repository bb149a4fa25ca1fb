import subprocess
import sys
from importlib.metadata import EntryPoint

import anyio
import psutil
import pytest

from cupola.catalog import ProgressEvent
from cupola.errors import CacheError, DiskFullError, ModelFormatError
from cupola.plugins import PluginSet
from cupola.settings import Settings
from cupola_plugins.gguf import GgufConverter, Layout, files, import_in_subprocess
from tiny_model import TinySizes, write_tiny_gguf, write_tiny_model

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", TinySizes(layers=12))


@pytest.fixture
def sabotaged(tmp_path_factory, monkeypatch):
    """A function that makes every Python process run some code first."""

    def sabotage(code):
        folder = tmp_path_factory.mktemp("sabotage")
        (folder / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return sabotage


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def importing_processes():
    return [child for child in psutil.Process().children() if "cupola_plugins.gguf" in " ".join(child.cmdline())]


async def test_an_import_in_a_process_of_its_own_gives_the_same_files(tmp_path):
    events = []
    source = write_tiny_gguf(tmp_path / "tiny.gguf", TinySizes(layers=3), seed=5)
    await import_in_subprocess(source, tmp_path / "model", layout=Layout.INT4_BLOCKS, progress=events.append)
    here = write_tiny_model(tmp_path / "here", layout=Layout.INT4_BLOCKS, layers=3, seed=5)
    assert events == [ProgressEvent("import", done, 3, "layers") for done in (1, 2, 3)]
    for name in files.ALL:
        assert (tmp_path / "model" / name).read_bytes() == (here / name).read_bytes()


async def test_what_the_process_refuses_is_raised_here(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    with pytest.raises(ModelFormatError, match=r"bad\.gguf: is not a GGUF file"):
        await import_in_subprocess(tmp_path / "bad.gguf", tmp_path / "model")


async def test_a_full_disk_is_raised_here(source, tmp_path, sabotaged):
    sabotaged("import shutil\nusage = shutil.disk_usage('.')\nshutil.disk_usage = lambda path: usage._replace(free=7)")
    with pytest.raises(DiskFullError) as caught:
        await import_in_subprocess(source, tmp_path)
    assert caught.value.free_bytes == 7
    assert names(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_raised_here(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError):
        await import_in_subprocess(source, tmp_path / "file")


async def test_cancellation_ends_the_process_and_leaves_nothing(source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with anyio.CancelScope() as scope:
        await import_in_subprocess(source, tmp_path, progress=lambda event: scope.cancel())
    assert scope.cancelled_caught
    assert names(tmp_path) == ["notes.txt"]
    assert importing_processes() == []


async def test_an_error_of_the_listener_ends_the_process_and_leaves_nothing(source, tmp_path):
    def broken(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await import_in_subprocess(source, tmp_path, progress=broken)
    assert names(tmp_path) == []
    assert importing_processes() == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to die of")
async def test_a_process_that_is_killed_leaves_nothing(source, tmp_path, sabotaged):
    sabotaged(
        "import os, signal\n"
        "write = os.write\n"
        "os.write = lambda *arguments: (write(*arguments), os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    events = []
    with pytest.raises(ModelFormatError, match="was killed by signal 9"):
        await import_in_subprocess(source, tmp_path, progress=events.append)
    assert len(events) == 1
    assert names(tmp_path) == []


async def test_a_process_that_breaks_shows_the_end_of_what_it_said(source, tmp_path, sabotaged):
    sabotaged("import os\nos.write(2, b'x' * 100_000 + b' out of luck')\nos._exit(3)")
    with pytest.raises(ModelFormatError, match=r"exited with code 3 before it finished\. x+ out of luck$") as caught:
        await import_in_subprocess(source, tmp_path)
    assert len(caught.value.detail) < 3_000


async def test_chatter_on_standard_output_is_passed_over(source, tmp_path, sabotaged):
    sabotaged("print('hello from a library', '{', flush=True)")
    await import_in_subprocess(source, tmp_path)
    assert names(tmp_path) == sorted(files.ALL)


async def test_nothing_in_the_current_folder_is_taken_for_a_library(source, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    await import_in_subprocess(source, tmp_path / "model")
    assert names(tmp_path / "model") == sorted(files.ALL)


def test_a_process_whose_parent_is_gone_ends_and_leaves_nothing(source, tmp_path):
    command = [sys.executable, "-m", "cupola_plugins.gguf", str(source), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
        assert process.wait(30) != 0
    assert names(tmp_path) == []


def test_importing_the_package_loads_no_heavy_library():
    program = "import sys, cupola_plugins.gguf; print(sorted({'numpy', 'onnx', 'gguf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_gguf_file_is_known_by_its_content_and_nothing_else_is(tmp_path):
    gguf, other = tmp_path / "model.bin", tmp_path / "model.gguf"
    write_tiny_gguf(gguf)
    other.write_bytes(b"PK\x03\x04")
    assert GgufConverter().layouts(gguf)[0] == "int8-rows"
    assert [GgufConverter().layouts(path) for path in (other, tmp_path, tmp_path / "none")] == [(), (), ()]


async def test_the_converter_comes_with_its_plugin_and_makes_a_model(tmp_path):
    (converter,) = PluginSet(Settings(), [EntryPoint("gguf", "cupola_plugins.gguf", "cupola")]).converters
    write_tiny_gguf(tmp_path / "tiny.gguf")
    seen = []
    await converter.convert(tmp_path / "tiny.gguf", tmp_path / "out", layout="int4-blocks", progress=seen.append)
    assert (tmp_path / "out" / "genai_config.json").is_file()
    assert seen[-1].done == seen[-1].total
