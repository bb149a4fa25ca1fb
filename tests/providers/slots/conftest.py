"""Tiny models, with a second graph of their own, a rewritten one, or none."""

import pytest

from cupola_plugins.gguf import Layout
from second_graphs import without_a_second_graph
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(
    scope="module",
    params=[
        {"layout": Layout.INT8_ROWS},
        {"layout": Layout.INT4_BLOCKS, "own_head": True},
        {"layout": Layout.INT8_ROWS, "heads": 6, "kv_heads": 3, "head_size": 32, "hidden": 96, "layers": 3},
        {"layout": Layout.INT8_BLOCKS, "heads": 4, "kv_heads": 1, "head_size": 64},
    ],
    ids=str,
)
def any_tiny(request, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), seed=3, **request.param)


@pytest.fixture(scope="module")
def rewritten_tiny(tmp_path_factory):
    """A model that came without a second graph, and got one by rewriting."""
    folder = write_tiny_model(tmp_path_factory.mktemp("rewritten"))
    (folder / "model.slots.onnx").unlink()
    return folder


@pytest.fixture(scope="module")
def stock_tiny(tmp_path_factory):
    """A model without a second graph, whose own one cannot be rewritten."""
    return without_a_second_graph(write_tiny_model(tmp_path_factory.mktemp("stock")))
