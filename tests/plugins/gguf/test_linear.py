"""Each layout's matrix product, as one small graph, against numpy."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from cupola_plugins.gguf.files import Layout
from cupola_plugins.gguf.linear import BODY, HEAD, Matrix
from cupola_plugins.gguf.onnx_model import Nodes, WeightsFile

RELATIVE_ERROR = {
    Layout.INT8_ROWS: 0.015,
    Layout.INT8_BLOCKS: 0.015,
    Layout.INT4_BLOCKS: 0.1,
    Layout.INT4_BLOCKS_64: 0.12,
}


def product(linear, folder, x, weights):
    """Store the weights, then compute x @ weights.T through onnxruntime."""
    matrix = Matrix("m", (), *weights.shape)
    with WeightsFile(folder / "m.data") as file:
        linear.store(file, "m", weights)
    nodes = Nodes()
    linear.multiply(nodes, "x", matrix, "y")
    model = nodes.model(
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", matrix.columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", matrix.rows])],
        file.tensors,
        {},
    )
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return onnxruntime.InferenceSession(folder / "m.onnx").run(["y"], {"x": x})[0]


@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("columns", [64, 160, 200], ids="{} columns".format)
@pytest.mark.parametrize("layout", Layout)
def test_every_layout_multiplies(tmp_path, layout, columns, tokens):
    random = np.random.default_rng(columns)
    weights = random.standard_normal((48, columns)).astype(np.float32)
    x = random.standard_normal((tokens, columns)).astype(np.float32)
    expected = x @ weights.T
    result = product(BODY[layout], tmp_path, x, weights)
    error = np.sqrt(((result - expected) ** 2).mean() / (expected**2).mean())
    assert error < RELATIVE_ERROR[layout]


def test_int8_rows_give_a_token_the_same_result_in_any_company(tmp_path):
    random = np.random.default_rng(0)
    weights = random.standard_normal((48, 64)).astype(np.float32)
    x = random.standard_normal((5, 64)).astype(np.float32) * np.float32([[1], [100], [0.01], [1], [0]])
    together = product(BODY[Layout.INT8_ROWS], tmp_path, x, weights)
    for token in range(len(x)):
        alone = product(BODY[Layout.INT8_ROWS], tmp_path, x[token : token + 1], weights)
        assert np.array_equal(alone[0], together[token])


@pytest.mark.parametrize("linear", [*BODY.values(), *HEAD.values()])
@pytest.mark.parametrize("columns", [64, 200])
def test_the_announced_size_is_the_size_on_disk(tmp_path, linear, columns):
    with WeightsFile(tmp_path / "data") as file:
        linear.store(file, "m", np.ones((100, columns), np.float32))
    announced = linear.stored_bytes(Matrix("m", (), 100, columns))
    assert announced <= (tmp_path / "data").stat().st_size < announced + 3 * 64
