import onnx
import pytest

from cupola_providers.runtime.layout import read_layout
from tiny_model import write_tiny_model


def test_the_layout_is_what_the_file_says(tmp_path):
    folder = write_tiny_model(tmp_path)
    properties = {one.key: one.value for one in onnx.load(folder / "model.onnx").metadata_props}
    assert read_layout(folder / "model.onnx") == properties["cupola.layout"] != ""


@pytest.mark.parametrize("content", [b"", b"\x72", b"\xff" * 40, b"\x0b\x00", b"no model at all"])
def test_a_file_that_says_nothing_has_no_layout(tmp_path, content):
    path = tmp_path / "model.onnx"
    assert read_layout(path) == ""
    path.write_bytes(content)
    assert read_layout(path) == ""


def test_other_properties_are_not_the_layout(tmp_path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"layout": "a", "cupola.layouts": "b"})
    onnx.save(model, tmp_path / "model.onnx")
    assert read_layout(tmp_path / "model.onnx") == ""
