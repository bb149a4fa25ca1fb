"""Which graphs the `slots` session takes, and what it says about those it does not take."""

import msgspec
import onnx
import pytest

from cupola_plugins.gguf import Layout
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.slots import SlotsGraph, slots_graph
from tiny_model import write_tiny_model


@pytest.fixture
def folder(tmp_path):
    return write_tiny_model(tmp_path, layers=3, heads=4, kv_heads=2, head_size=16)


def inspect(folder, **decoder):
    config = read_config(folder)
    changed = msgspec.structs.replace(config.model.decoder, **decoder)
    model = msgspec.structs.replace(config.model, decoder=changed)
    return slots_graph(folder, msgspec.structs.replace(config, model=model))


def change(folder, edit, name="model.onnx"):
    """Edit the stock graph and leave no other."""
    model = onnx.load(folder / name, load_external_data=False)
    edit(model.graph)
    (folder / name).write_bytes(model.SerializeToString())
    (folder / "model.slots.onnx").unlink()
    return inspect(folder)


@pytest.mark.parametrize("layout", list(Layout))
def test_an_imported_model_fits(tmp_path, layout):
    found = inspect(write_tiny_model(tmp_path, layout=layout, layers=3))
    assert isinstance(found, SlotsGraph)
    assert (found.layers, found.kv_heads, found.head_size, found.vocab_size) == (3, 2, 16, 300)
    assert found.path.name == "model.slots.onnx"
    assert found.picks_logits
    assert found.kv_bytes_per_token == 3 * 2 * 2 * 16 * 4
    assert found.past_keys == tuple(f"past_key_values.{layer}.key" for layer in range(3))


def test_without_the_second_graph_the_stock_one_serves(folder):
    (folder / "model.slots.onnx").unlink()
    found = inspect(folder)
    assert isinstance(found, SlotsGraph)
    assert found.path.name == "model.onnx"
    assert not found.picks_logits


def test_a_second_graph_that_does_not_fit_is_passed_over(folder):
    (folder / "model.slots.onnx").write_bytes(b"no graph")
    assert inspect(folder).path.name == "model.onnx"


def test_a_file_that_is_no_graph_is_named(folder):
    (folder / "model.slots.onnx").unlink()
    (folder / "model.onnx").write_bytes(b"no graph")
    assert "model.onnx cannot be read" in inspect(folder)


def test_a_missing_file_is_named(folder):
    (folder / "model.slots.onnx").unlink()
    (folder / "model.onnx").unlink()
    assert inspect(folder) == "model.onnx is missing"


def test_a_model_without_a_decoder_is_refused(folder):
    assert "decoder" in inspect(folder, filename="")


def set_operator(operator):
    def edit(graph):
        next(node for node in graph.node if node.op_type == "GroupQueryAttention").op_type = operator

    return edit


def set_all_operators(graph):
    for node in graph.node:
        if node.op_type == "GroupQueryAttention":
            node.op_type = "PagedAttention"


def rename_input(graph):
    graph.input[1].name = "mask"


def add_input(graph):
    graph.input.append(onnx.helper.make_tensor_value_info("position_ids", onnx.TensorProto.INT64, ["batch", "length"]))


def set_type(which, kind):
    def edit(graph):
        next(one for one in graph.input if which in one.name).type.tensor_type.elem_type = kind

    return edit


def compute_rotary_table(graph):
    node = next(node for node in graph.node if node.op_type == "GroupQueryAttention")
    graph.node.insert(0, onnx.helper.make_node("Identity", [node.input[7]], ["moving_cos"]))
    node.input[7] = "moving_cos"


def drop_output(graph):
    graph.output.pop()


def half_logits(graph):
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def nameless_heads(graph):
    graph.output[1].type.tensor_type.shape.dim[1].dim_param = "heads"


def nameless_vocabulary(graph):
    graph.output[0].type.tensor_type.shape.dim[-1].dim_param = "vocabulary"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (set_all_operators, "no GroupQueryAttention"),
        (set_operator("MultiHeadAttention"), "other attention"),
        (set_operator("Identity"), "2 GroupQueryAttention for 3 layers"),
        (rename_input, "no input attention_mask"),
        (add_input, "requires the input position_ids"),
        (set_type("past", onnx.TensorProto.FLOAT16), "not float32"),
        (set_type("input_ids", onnx.TensorProto.INT32), "not int64"),
        (compute_rotary_table, "rotary tables"),
        (drop_output, "outputs are not"),
        (half_logits, "logits are not float32"),
        (nameless_heads, "shape of its KV cache"),
        (nameless_vocabulary, "vocabulary"),
    ],
)
def test_a_graph_of_another_kind_is_refused_with_the_reason(folder, edit, reason):
    assert reason in change(folder, edit)
