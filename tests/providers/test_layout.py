import onnx
import pytest

from cupola_plugins.gguf import Layout
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


@pytest.mark.parametrize("layout", list(Layout))
def test_the_layout_of_other_files_is_recognised(tmp_path, layout):
    path = write_tiny_model(tmp_path, layout=layout) / "model.onnx"
    said = read_layout(path)
    model = onnx.load(path, load_external_data=False)
    model.ClearField("metadata_props")
    path.write_bytes(model.SerializeToString())
    assert read_layout(path) == said


def test_matrices_of_floats_are_recognised(tmp_path):
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT16, [2, 2], [1.0] * 4)
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "one", [], [], [weights])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    assert read_layout(tmp_path / "model.onnx") == "float16"


def test_other_properties_are_not_the_layout(tmp_path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"layout": "a", "cupola.layouts": "b"})
    onnx.save(model, tmp_path / "model.onnx")
    assert read_layout(tmp_path / "model.onnx") == ""
