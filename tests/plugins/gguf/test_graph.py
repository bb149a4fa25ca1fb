"""The imported graphs against a decoder in numpy, and against each other."""

import json

import numpy as np
import onnx
import onnxruntime
import onnxruntime_genai
import pytest

from cupola_plugins.gguf import Layout, files
from tiny_model import TinySizes, reference_logits, write_tiny_model

TOKENS = [1, 118, 120, 104, 13, 264, 35, 52, 99, 200, 2, 13, 77]
SHAPES = {
    "grouped heads": {},
    "one head each": {"kv_heads": 4},
    "one key-value head": {"kv_heads": 1},
    "heads wider than the hidden size": {"heads": 6, "kv_heads": 3, "head_size": 32, "hidden": 96},
    "another rotary base": {"rope_base": 500_000.0, "norm_epsilon": 1e-3},
    "one layer": {"layers": 1},
    "qwen2": {"architecture": "qwen2"},
    "qwen3": {"architecture": "qwen3", "head_size": 32},
    "gemma": {"architecture": "gemma", "head_size": 32, "kv_heads": 1},
    "gemma2": {"architecture": "gemma2", "layers": 3},
    "gemma2 with a window of one": {"architecture": "gemma2", "window": 1},
    "gemma3": {"architecture": "gemma3", "layers": 7, "rope_base": 1_000_000.0},
    "gemma3 with scaled positions": {"architecture": "gemma3", "layers": 6, "rope_factor": 8.0},
}


class Decoder:
    """A graph with its KV cache, as plain onnxruntime runs it."""

    def __init__(self, path, rows=1):
        self.session = onnxruntime.InferenceSession(path)
        self.past = {
            value.name: np.zeros((rows, value.shape[1], 0, value.shape[3]), np.float32)
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values")
        }
        self.length = 0

    def feed(self, tokens, **extra):
        """Feed [rows, tokens]; return the logits."""
        tokens = np.array(tokens, np.int64)
        self.length += tokens.shape[1]
        mask = np.ones((len(tokens), self.length), np.int64)
        logits, *present = self.session.run(None, {"input_ids": tokens, "attention_mask": mask, **self.past, **extra})
        self.past = dict(zip(self.past, present, strict=True))
        return logits


def with_float_activations(folder):
    """Write the graph once more without the quantisation of activations, so that only the weights' is left."""
    model = onnx.load(folder / files.GRAPH, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    onnx.save(model, folder / "exact.onnx")
    return folder / "exact.onnx"


@pytest.mark.parametrize("own_head", [False, True], ids=["head is the embedding", "head of its own"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_without_rounding_the_graph_is_the_reference_decoder(tmp_path, shape, own_head):
    """Q8_0 weights survive the 8-bit blocks unchanged, so rotation, head order and norms are compared to the digit."""
    write_tiny_model(tmp_path, layout=Layout.INT8_BLOCKS, own_head=own_head, **shape)
    logits = Decoder(with_float_activations(tmp_path)).feed([TOKENS])[0]
    expected = reference_logits(TOKENS, TinySizes(**shape), own_head=own_head)
    assert np.abs(logits - expected).max() < 2e-3


@pytest.mark.parametrize(
    ("layout", "correlation"),
    [(Layout.INT8_ROWS, 0.995), (Layout.INT8_BLOCKS, 0.997), (Layout.INT4_BLOCKS, 0.75), (Layout.INT4_BLOCKS_64, 0.6)],
)
def test_every_layout_stays_near_the_reference(tmp_path, layout, correlation):
    logits = Decoder(write_tiny_model(tmp_path, layout=layout) / files.GRAPH).feed([TOKENS])[0]
    assert np.corrcoef(logits.ravel(), reference_logits(TOKENS).ravel())[0, 1] > correlation


@pytest.mark.parametrize("layout", Layout)
def test_both_graphs_agree_on_picked_positions(tmp_path, layout):
    write_tiny_model(tmp_path, layout=layout)
    rows = [TOKENS, TOKENS[::-1]]
    flat = Decoder(tmp_path / files.GRAPH, rows=2).feed(rows).reshape(2 * len(TOKENS), -1)
    for positions in ([12, 25], [25, 0, 3, 13], [25], list(range(26))):
        logits = Decoder(tmp_path / files.PICKED_GRAPH, rows=2).feed(rows, logits_idx=np.array(positions, np.int64))
        assert logits.shape == (len(positions), flat.shape[1])
        assert np.abs(logits - flat[positions]).max() < 1e-4


@pytest.mark.parametrize("layout", Layout)
def test_both_graphs_agree_step_by_step(tmp_path, layout):
    write_tiny_model(tmp_path, layout=layout)
    every, picked = (Decoder(tmp_path / graph) for graph in (files.GRAPH, files.PICKED_GRAPH))
    for chunk in (TOKENS[:5], TOKENS[5:], [5], [7], [9]):
        logits = picked.feed([chunk], logits_idx=np.array([len(chunk) - 1], np.int64))
        assert np.abs(logits - every.feed([chunk])[:, -1]).max() < 1e-4


@pytest.mark.parametrize("layout", Layout)
def test_onnxruntime_genai_generates_the_tokens_that_the_graph_prefers(tmp_path, layout):
    write_tiny_model(tmp_path, layout=layout)
    model = onnxruntime_genai.Model(str(tmp_path))
    parameters = onnxruntime_genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(TOKENS) + 12, do_sample=False)
    generator = onnxruntime_genai.Generator(model, parameters)
    generator.append_tokens(TOKENS)
    while not generator.is_done():
        generator.generate_next_token()
    generated = [int(token) for token in generator.get_sequence(0)][len(TOKENS) :]

    decoder = Decoder(tmp_path / files.GRAPH)
    expected, fed = [], TOKENS
    while len(expected) < len(generated):
        expected.append(int(decoder.feed([fed])[0, -1].argmax()))
        fed = expected[-1:]
    assert generated == expected


@pytest.mark.parametrize("graph", [files.GRAPH, files.PICKED_GRAPH])
def test_the_graph_says_which_layout_it_has(tmp_path, graph):
    write_tiny_model(tmp_path, layout=Layout.INT4_BLOCKS)
    metadata = onnxruntime.InferenceSession(tmp_path / graph).get_modelmeta()
    assert metadata.custom_metadata_map == {"cupola.layout": "int4-blocks"}


@pytest.mark.parametrize("layout", Layout)
def test_both_graphs_share_one_aligned_file_of_weights(tmp_path, layout):
    write_tiny_model(tmp_path, layout=layout)
    places = []
    for graph in (files.GRAPH, files.PICKED_GRAPH):
        model = onnx.load(tmp_path / graph, load_external_data=False)
        stored = [tensor for tensor in model.graph.initializer if tensor.external_data]
        found = {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in stored}
        assert all(place["location"] == files.WEIGHTS and int(place["offset"]) % 64 == 0 for place in found.values())
        places.append(found)
    assert places[0] == places[1]
    ends = [int(place["offset"]) + int(place["length"]) for place in places[0].values()]
    assert max(ends) == (tmp_path / files.WEIGHTS).stat().st_size


def test_no_number_of_threads_is_written(tmp_path):
    write_tiny_model(tmp_path)
    config = json.loads((tmp_path / files.GENAI_CONFIG).read_text())
    assert config["model"]["decoder"]["session_options"] == {"log_id": "onnxruntime-genai", "provider_options": []}
