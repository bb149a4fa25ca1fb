from importlib.metadata import EntryPoint

import pytest

from cupola.plugins import PluginSet
from cupola.settings import Settings
from cupola_plugins.gguf import GgufConverter
from tiny_model import write_tiny_gguf

pytestmark = pytest.mark.anyio


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
