"""Graphs are rewritten so that they compute less and say the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from cupola.errors import LoadError
from cupola.provider import ModelFiles
from cupola_plugins.gguf import Layout
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.slots import SlotPlan, slots_graph
from cupola_providers.runtime.slots.decoder import SlotDecoder
from cupola_providers.runtime.slots.loading import OpenGraphs, native_session, token_by_token_graph
from cupola_providers.runtime.slots.memory import KvMemory
from cupola_providers.runtime.slots.rewriting import pick_logits, unroll_attention
from second_graphs import without_a_second_graph
from tiny_model import write_tiny_model

LENGTH = 128


def opened(folder, budget=0):
    config = read_config(folder)
    files = ModelFiles("tiny-generic-cpu:1", folder)
    return OpenGraphs.of(
        files, slots_graph(folder, config), config, threads=1, spinning=False, speculation_budget_bytes=budget
    )


class Decoding:
    """A graph with a KV cache of its own."""

    def __init__(self, graph, native, slots=3):
        self.memory = KvMemory(graph, SlotPlan(slots, LENGTH))
        self.decoder = SlotDecoder(native, graph, self.memory)

    def __call__(self, tokens, totals, picks, first=0):
        return self.decoder.run(first, np.asarray(tokens, np.int64), totals, picks).copy()


def tokens(count, seed=0):
    return np.random.default_rng(seed).integers(3, 300, (1, count))


@pytest.fixture(
    scope="module",
    params=[
        {"layout": Layout.INT8_ROWS},
        {"layout": Layout.INT4_BLOCKS, "own_head": True, "layers": 3},
        {"layout": Layout.INT8_BLOCKS, "heads": 6, "kv_heads": 3, "head_size": 32, "hidden": 96},
    ],
    ids=str,
)
def imported(request, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("imported"), **request.param)


@pytest.fixture(scope="module")
def stripped(imported, tmp_path_factory):
    """The same model as it might come from elsewhere: without the importer's second graph and its remarks."""
    folder = tmp_path_factory.mktemp("stripped")
    for file in imported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.slots.onnx").unlink()
    edit(folder, lambda model: model.ClearField("metadata_props"))
    return folder


def edit(folder, change):
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def test_a_rewritten_graph_says_what_the_importers_own_says(imported, stripped):
    ours, rewritten = opened(imported).main, opened(stripped).main
    assert rewritten.graph.path.name == "model.slots.onnx"
    assert rewritten.graph.picks_logits
    first, second = Decoding(ours.graph, ours.native), Decoding(rewritten.graph, rewritten.native)
    prompt = tokens(40)
    for decoding in (first, second):
        assert decoding(prompt[:, :20], [20], []).shape == (0, 300)
    picks = [19, 3, 0]
    assert np.array_equal(first(prompt[:, 20:], [40], picks), second(prompt[:, 20:], [40], picks))
    assert all(map(np.array_equal, first.memory.arrays, second.memory.arrays))


def test_a_rewritten_graph_leaves_out_what_the_importers_own_leaves_out(imported, stripped):
    opened(stripped)
    graphs = [onnx.load(folder / "model.slots.onnx", load_external_data=False).graph for folder in (imported, stripped)]
    before = [sum(1 for node in graph.node[: first_pick(graph)] if "MatMul" in node.op_type) for graph in graphs]
    assert before[0] == before[1]


def first_pick(graph):
    return next(at for at, node in enumerate(graph.node) if "logits_idx" in node.input)


def test_the_models_own_files_stay_as_they_are_and_the_second_time_nothing_is_made(stripped):
    (stripped / "model.slots.onnx").unlink(missing_ok=True)
    before = {file.name: file.read_bytes() for file in stripped.iterdir()}
    opened(stripped)
    made = (stripped / "model.slots.onnx").stat()
    opened(stripped)
    assert (stripped / "model.slots.onnx").stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_size < 100_000
    after = {file.name: file.read_bytes() for file in stripped.iterdir() if file.name != "model.slots.onnx"}
    assert after == before


def test_a_second_graph_of_another_version_is_made_anew(stripped):
    opened(stripped)
    made = (stripped / "model.slots.onnx").read_bytes()
    edit(stripped, lambda model: setattr(model, "producer_version", "next"))
    assert opened(stripped).main.graph.picks_logits
    assert (stripped / "model.slots.onnx").read_bytes() != made


def test_where_nothing_can_be_written_the_graph_is_rewritten_in_memory(stripped, monkeypatch):
    (stripped / "model.slots.onnx").unlink(missing_ok=True)
    monkeypatch.setattr("cupola_providers.runtime.slots.loading._write", lambda *_: False)
    graphs = opened(stripped, budget=10**9)
    assert graphs.main.graph.content
    assert graphs.main.graph.picks_logits
    assert graphs.checking
    assert "model.onnx, rewritten in memory, computes logits only where asked" in graphs.remarks
    assert not (stripped / "model.slots.onnx").exists()


def test_a_folder_that_cannot_be_written_is_no_fault(stripped):
    (stripped / "model.slots.onnx").unlink(missing_ok=True)
    (stripped / "model.slots.onnx").mkdir()  # stands in the way even of root
    (stripped / "model.slots.onnx" / "file").touch()
    assert opened(stripped).main.graph.content
    (stripped / "model.slots.onnx" / "file").unlink()
    (stripped / "model.slots.onnx").rmdir()


def test_the_layout_is_recognised(imported, stripped):
    assert slots_graph(stripped, read_config(stripped)).layout == slots_graph(imported, read_config(imported)).layout


def test_a_graph_that_cannot_be_rewritten_serves_as_it_is(tmp_path):
    graphs = opened(without_a_second_graph(write_tiny_model(tmp_path)))
    assert graphs.main.graph.path.name == "model.onnx"
    assert graphs.remarks[0].endswith("since its logits come from Reshape, which may mix positions")


def append_softmax_over_positions(graph):
    graph.node[-1].output[0] = "raw"
    graph.node.append(helper.make_node("Softmax", ["raw"], ["logits"], axis=1))


def branch(graph):
    inner = helper.make_graph([helper.make_node("Identity", ["raw"], ["same"])], "inner", [], [graph.output[0]])
    graph.node[-1].output[0] = "raw"
    graph.node.append(helper.make_node("If", ["yes"], ["logits"], then_branch=inner, else_branch=inner))


def unknown_source(graph):
    last = next(node for node in graph.node if "logits" in node.output)
    graph.node.insert(list(graph.node).index(last), helper.make_node("Dropout", [last.input[0]], ["dropped"]))
    last.input[0] = "dropped"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (append_softmax_over_positions, "come from Softmax"),
        (branch, "branches"),
        (unknown_source, "not clear what"),
    ],
)
def test_what_may_mix_positions_is_left_alone(tmp_path, change, reason):
    folder = write_tiny_model(tmp_path, layout=Layout.INT4_BLOCKS)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model.graph)
    assert reason in pick_logits(model, "logits")


def test_a_rewritten_graph_that_computes_something_else_is_not_believed(stripped, monkeypatch):
    (stripped / "model.slots.onnx").unlink(missing_ok=True)

    def wrong(model, logits):
        rewritten = pick_logits(model, logits)
        next(node for node in rewritten.graph.node if node.op_type == "Gather" and "logits_idx" in node.input).input[
            1
        ] = "picked.first"
        rewritten.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "picked.first"))
        return rewritten

    monkeypatch.setattr("cupola_providers.runtime.slots.loading.pick_logits", wrong)
    graphs = opened(stripped)
    assert not graphs.main.graph.picks_logits
    assert "rewritten graph" in graphs.remarks[0]


def test_a_model_that_cannot_be_loaded_at_all_is_refused_as_ever(stripped):
    (stripped / "model.slots.onnx").unlink(missing_ok=True)
    weights = (stripped / "model.onnx.data").read_bytes()
    (stripped / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(LoadError, match=r"model\.onnx"):
        opened(stripped)
    (stripped / "model.onnx.data").write_bytes(weights)


@pytest.fixture(scope="module")
def pair(imported):
    """The main graph of a model, and the one that takes three tokens of each row one by one."""
    main = opened(imported).main
    second = token_by_token_graph(main.graph, 3)
    native = native_session(ModelFiles("tiny", imported), second, threads=1, spinning=False)
    return main, second, native


def test_tokens_taken_one_by_one_are_to_the_last_bit_what_they_are_alone(pair):
    main, second, native = pair
    alone, together = Decoding(main.graph, main.native), Decoding(second, native)
    together.decoder, prefill = (
        SlotDecoder(native, second, alone.memory),
        SlotDecoder(main.native, main.graph, alone.memory),
    )
    lengths, rows = (7, 30, 2), range(3)
    following = np.concatenate([tokens(3, 10 + row) for row in rows])
    for row in rows:
        prefill.run(row, tokens(lengths[row], row), [lengths[row]], [])
    expected = [
        alone(following[row : row + 1, at : at + 1], [lengths[row] + at + 1], [0], row)[0]
        for row in rows
        for at in range(3)
    ]
    cache = [array.copy() for array in alone.memory.arrays]
    for array in alone.memory.arrays:
        for row in rows:
            array[row, :, lengths[row] :] = 9
    found = together(following, [length + 3 for length in lengths], range(9))
    assert np.array_equal(found, expected)
    for before, after in zip(cache, alone.memory.arrays, strict=True):
        for row in rows:
            end = lengths[row] + 3
            assert np.array_equal(before[row, :, :end], after[row, :, :end])


def test_an_attention_that_wants_positions_is_not_taken_apart(imported):
    model = onnx.load(imported / "model.onnx", load_external_data=False)
    node = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    node.input.append("position_ids")
    assert "positions" in unroll_attention(model, 3)


def test_weights_are_held_twice_only_where_they_are_small(imported):
    graph = opened(imported).main.graph
    assert graph.weights_bytes == (imported / "model.onnx.data").stat().st_size
    assert opened(imported, 4 * graph.weights_bytes).checking
    assert not opened(imported, 4 * graph.weights_bytes - 1).checking


def test_a_graph_that_holds_its_weights_itself_is_rewritten_while_it_is_small(tmp_path, monkeypatch):
    folder = write_tiny_model(tmp_path)
    (folder / "model.slots.onnx").unlink()
    whole = onnx.load(folder / "model.onnx")
    onnx.save(whole, folder / "model.onnx")
    (folder / "model.onnx.data").unlink()
    assert opened(folder).main.graph.picks_logits
    (folder / "model.slots.onnx").unlink()
    monkeypatch.setattr("cupola_providers.runtime.slots.loading._LARGEST_GRAPH_BYTES", 1000)
    assert "contains its weights" in opened(folder).remarks[0]
    assert onnxruntime.InferenceSession(folder / "model.onnx")
