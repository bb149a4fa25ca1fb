"""What a failure costs, and whom; and what memory is taken."""

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest

from cupola.errors import CupolaError, LoadError
from cupola.provider import Guidance, Sampling, Turn
from cupola.testing.sessions import run_turn, run_turns
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.slots import SlotPlan, SlotsSession, slots_graph
from cupola_providers.runtime.slots.loading import OpenGraph, OpenGraphs
from cupola_providers.runtime.tokenizer import GenaiTokenizer
from providers.slots.sessions import VOCAB, alone, open_slots, prompt, turn
from tiny_model import write_tiny_model


def with_a_token_that_is_no_number(folder, token):
    """Put NaN into the embedding of one token, which no file that passed the importer has."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    scales = next(node.input[2] for node in graph.node if node.op_type == "GatherBlockQuantized")
    tensor = next(one for one in graph.initializer if one.name == scales)
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / place["location"]).open("r+b") as data:
        data.seek(int(place["offset"]) + token * tensor.dims[1] * 4)
        data.write(np.full(tensor.dims[1], np.nan, np.float32).tobytes())
    return folder


def test_logits_that_are_no_numbers_cost_only_their_own_turn(tmp_path):
    folder = with_a_token_that_is_no_number(write_tiny_model(tmp_path, own_head=True), 77)
    good = turn(1, [token for token in prompt(40) if token != 77], 20)
    expected = alone(folder, good)
    session = open_slots(folder, chunk=64)
    answers = run_turns(session, [good, turn(2, [5, 77, 6], 20), turn(3, good.prompt[:20], 5)])
    assert answers[2].error is not None
    assert "NaN or infinite" in str(answers[2].error.fields["detail"])
    assert answers[1].tokens == expected
    assert answers[3].error is None
    assert run_turn(session, turn(4, [5, 9, 6], 5)).cached_tokens == 0  # nothing of the failed turn is kept


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (turn(1, [3, VOCAB], 4), "InvalidParameterError"),
        (turn(1, [-1], 4), "InvalidParameterError"),
        (turn(1, [], 4), "InvalidParameterError"),
        (turn(1, [4] * 500, 13), "ContextLengthExceededError"),
        (turn(1, [4], 4, Sampling(temperature=1.0, logit_bias={VOCAB: 1.0})), "InvalidParameterError"),
        (Turn(1, [4], 4, stop_token_ids=frozenset({VOCAB})), "InvalidParameterError"),
        (Turn(1, [4], 4, guidance=Guidance("regex", "(")), "InvalidParameterError"),
    ],
)
def test_a_turn_that_cannot_run_is_told_so_and_costs_nobody_else(tiny, bad, kind):
    session = open_slots(tiny)
    with pytest.raises(CupolaError) as caught:
        session.check(bad)
    assert type(caught.value).__name__ == kind
    answers = run_turns(session, [bad, turn(2, prompt(5), 3)])
    assert answers[1].error.kind == kind
    assert answers[2].finish == "length"


class FailingNow:
    """An inference session whose next run fails when told so."""

    def __init__(self, native):
        self.native, self.fails = native, False

    def io_binding(self):
        return self.native.io_binding()

    def run_with_iobinding(self, binding):
        if self.fails:
            self.fails = False
            raise RuntimeError("no more memory")
        self.native.run_with_iobinding(binding)


@pytest.mark.parametrize("steps_before", [0, 1, 4])
def test_a_forward_pass_that_fails_costs_only_the_turns_in_it(tiny, steps_before):
    config = read_config(tiny)
    graph = slots_graph(tiny, config)
    native = FailingNow(onnxruntime.InferenceSession(graph.path))
    graphs = OpenGraphs(OpenGraph(graph, native))
    session = SlotsSession(graphs, SlotPlan(3, 512), config, GenaiTokenizer(tiny, config), chunk=32)
    expected = run_turn(session, turn(1, prompt(20), 8)).tokens
    session.admit(turn(2, prompt(50, 2), 8))
    for _ in range(steps_before):
        session.step()
    native.fails = True
    (event,) = session.step()
    assert event.turn_id == 2
    assert "no more memory" in event.error.fields["detail"]
    after = run_turns(session, [turn(3, prompt(20), 8), turn(4, prompt(50, 2), 8)])
    assert after[3].tokens == expected
    assert after[4].finish == "length"
    assert after[4].cached_tokens == 0


def test_memory_is_taken_where_tokens_are(tmp_path):
    folder = write_tiny_model(tmp_path, layers=4, heads=8, kv_heads=8, head_size=64, context=65_536)
    budget = 8 * 65_536 * (4 * 8 * 64 * 2 * 4)
    before = psutil.Process().memory_info().rss
    session = open_slots(folder, budget=budget, context_length=65_536)
    assert session.capacity == 8
    run_turns(session, [turn(number, prompt(40, number), 4) for number in range(8)])
    assert psutil.Process().memory_info().rss - before < budget / 20
    session.close()


def test_a_budget_that_is_too_small_is_refused_with_numbers(tiny):
    with pytest.raises(LoadError, match=r"kB per token"):
        open_slots(tiny, budget=1000)


def test_a_budget_that_the_system_does_not_grant_is_refused(tiny):
    beyond_any_address_space = 2**44
    with pytest.raises(LoadError, match="Lower its kv_memory_mb"):
        open_slots(tiny, budget=2**60, context_length=beyond_any_address_space)


def test_a_graph_that_does_not_fit_its_weights_is_refused(tmp_path):
    folder = write_tiny_model(tmp_path)
    (folder / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(LoadError, match=r"model\.slots\.onnx"):
        open_slots(folder)
