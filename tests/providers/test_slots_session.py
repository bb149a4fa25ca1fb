"""The `slots` session on tiny random models: real graphs, real ONNX Runtime, no language."""

import msgspec
import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola import CupolaError, Guidance, Limits, LoadError, ModelFiles, Sampling, Turn
from cupola.testing.sessions import SessionSuite, run_turn, run_turns
from cupola_plugins.gguf import Layout
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.slots import SlotPlan, SlotsSession, slots_graph
from cupola_providers.runtime.slots.opening import OpenGraph, OpenGraphs
from cupola_providers.runtime.tokenizer import GenaiTokenizer
from second_graphs import without_a_second_graph
from tiny_model import write_tiny_model

GREEDY = Sampling(temperature=0.0)
VOCAB = 300


def open_slots(folder, *, slots=4, context_length=512, chunk=32, budget=None, **config_changes):
    config = read_config(folder)
    context = max(context_length, config.model.context_length)
    model = msgspec.structs.replace(config.model, **{"context_length": context, **config_changes})
    config = msgspec.structs.replace(config, model=model)
    graph = slots_graph(folder, config)
    return SlotsSession.open(
        ModelFiles("tiny-generic-cpu:1", folder),
        config,
        GenaiTokenizer(folder, config),
        threads=1,
        spinning=False,
        limits=Limits(context_length, chunk),
        memory_budget_bytes=slots * context_length * graph.kv_bytes_per_token if budget is None else budget,
    )


def prompt(length, seed=0):
    return np.random.default_rng(seed).integers(3, VOCAB, length).tolist()


def turn(turn_id, tokens, max_tokens=8, sampling=GREEDY, *, ignore_eos=True):
    return Turn(turn_id, tokens, max_tokens, sampling, ignore_eos)


def alone(folder, one, **options):
    session = open_slots(folder, slots=1, **options)
    answer = run_turn(session, one)
    session.close()
    return answer.tokens


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


class TestTheSlotsSession(SessionSuite):
    vocab_size = VOCAB

    @pytest.fixture
    def session(self, tiny):
        session = open_slots(tiny)
        yield session
        session.close()


class TestTheSlotsSessionOnAStockGraph(SessionSuite):
    vocab_size = VOCAB

    @pytest.fixture
    def session(self, stock_tiny):
        session = open_slots(stock_tiny)
        yield session
        session.close()


class TestTheSlotsSessionOnARewrittenGraph(SessionSuite):
    vocab_size = VOCAB

    @pytest.fixture
    def session(self, rewritten_tiny):
        session = open_slots(rewritten_tiny)
        yield session
        session.close()


def test_staggered_turns_answer_as_they_do_alone(any_tiny):
    turns = [turn(n, prompt(5 + 13 * n, n), 20 + n) for n in range(8)]
    expected = {one.id: alone(any_tiny, one) for one in turns}
    session = open_slots(any_tiny, slots=8)
    answers, waiting = {one.id: [] for one in turns}, list(turns)
    for step in range(400):
        if waiting and step % 3 == 0:
            session.admit(waiting.pop(0))
        for event in session.step():
            answers[event.turn_id] += event.tokens
    assert answers == expected


def test_every_kind_of_graph_gives_the_same_answers(tiny, rewritten_tiny, stock_tiny):
    turns = [turn(n, prompt(5 + 30 * n, n), 20) for n in range(4)]
    sessions = [open_slots(folder) for folder in (tiny, rewritten_tiny, stock_tiny)]
    answers = [{n: one.tokens for n, one in run_turns(session, turns).items()} for session in sessions]
    assert answers[0] == answers[1] == answers[2]
    assert all("asked" in session.reason for session in sessions[:2])
    assert "logits for every token, since its logits come from Reshape" in sessions[2].reason
    assert {session.layout for session in sessions} == {"int8-rows"}


KINDS = range(6)
orders = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(KINDS), st.integers(1, 12)),
    st.tuples(st.just("cancel"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 6), st.just(0)),
)


def turn_of_kind(turn_id, kind, max_tokens):
    return turn(turn_id, prompt(7 + 21 * kind, kind % 3), max_tokens)  # kinds share prefixes


@pytest.fixture(scope="module")
def expected_answers(tiny):
    return {kind: alone(tiny, turn_of_kind(0, kind, 12)) for kind in KINDS}


class Driver:
    """Carries out orders and checks every answer against what the turn says when it is alone."""

    def __init__(self, session, expected):
        self.session, self.expected = session, expected
        self.active, self.count = {}, 0

    def join(self, kind, max_tokens):
        if len(self.active) < self.session.capacity:
            self.session.admit(turn_of_kind(self.count, kind, max_tokens))
            self.active[self.count] = (self.expected[kind][:max_tokens], [])
            self.count += 1

    def cancel(self, turn_id, _):
        self.session.cancel(turn_id)
        self.active.pop(turn_id, None)

    def step(self, times, _):
        for event in (event for _ in range(times) for event in self.session.step()):
            wanted, got = self.active[event.turn_id]
            got += event.tokens
            assert got == wanted[: len(got)]
            if event.finish:
                assert got == wanted
                del self.active[event.turn_id]


@settings(max_examples=60, deadline=None)
@given(st.lists(orders, max_size=40))
def test_any_order_of_joining_cancelling_and_leaving_changes_no_answer(tiny, expected_answers, given_orders):
    driver = Driver(open_slots(tiny, slots=3), expected_answers)
    for order, *arguments in given_orders:
        getattr(driver, order)(*arguments)
    driver.step(300, 0)
    assert not driver.active
    driver.session.close()


def test_a_long_prompt_never_keeps_others_waiting_for_more_than_two_chunks(tiny):
    session = open_slots(tiny, chunk=16)
    session.admit(turn(1, prompt(4), 100))
    session.step()
    session.admit(turn(2, prompt(400, 1), 4))
    since_last = []
    for _ in range(80):
        ids = [event.turn_id for event in session.step() if event.tokens or event.turn_id == 2]
        since_last.append(1 in ids)
    gaps = "".join("t" if got else "." for got in since_last).split("t")
    assert max(map(len, gaps)) <= 2


def test_a_chunk_is_half_as_long_while_others_wait(tiny):
    session = open_slots(tiny, chunk=32)
    session.admit(turn(1, prompt(100), 1))
    assert steps_until_a_token(session) == 4
    session.admit(turn(2, prompt(100, 1), 1))
    session.admit(turn(3, prompt(100, 2), 1))
    assert steps_until_a_token(session) == 7


def steps_until_a_token(session):
    for number in range(1, 100):
        if any(event.tokens for event in session.step()):
            return number
    raise AssertionError("no token came")


def test_a_short_prompt_gets_in_while_a_long_one_is_computed(tiny):
    session = open_slots(tiny, chunk=16)
    session.admit(turn(1, prompt(400), 1))
    session.step()
    session.admit(turn(2, prompt(10, 1), 1))
    seen = [[event.turn_id for event in session.step()] for _ in range(3)]
    assert [2] in seen


def test_a_long_prompt_is_not_starved_by_short_ones(tiny):
    session = open_slots(tiny, chunk=32)
    session.admit(turn(1, prompt(160), 1))
    for number in range(2, 60):
        session.admit(turn(number, prompt(10, number), 1))
        events = session.step()
        if any(event.turn_id == 1 and event.finish for event in events):
            break
    assert number < 30


def test_short_prompts_that_come_together_share_a_pass(tiny):
    session = open_slots(tiny, chunk=128)
    for number in range(4):
        session.admit(turn(number, prompt(10 + number, number), 2))
    assert {event.turn_id for event in session.step() if event.tokens} == {0, 1, 2, 3}


def test_the_same_prompt_several_times_at_once_is_computed_once(tiny):
    session = open_slots(tiny, chunk=128)
    tokens = prompt(100)
    answers = run_turns(session, [turn(number, tokens, 6) for number in range(4)])
    assert [answer.cached_tokens for answer in answers.values()] == [0, 98, 98, 98]
    assert len({tuple(answer.tokens) for answer in answers.values()}) == 1


def test_cached_tokens_are_those_of_the_common_prefix(tiny):
    session = open_slots(tiny)
    first = run_turn(session, turn(1, prompt(60), 10))
    assert first.cached_tokens == 0
    follow_up = [*prompt(60), *first.tokens, *prompt(8, 5)]
    second = run_turn(session, turn(2, follow_up, 10))
    assert second.cached_tokens == 60  # an answer is computed token by token, which rounds differently from a prompt
    assert run_turn(session, turn(4, [*follow_up, *second.tokens], 10)).cached_tokens == len(follow_up)
    third = run_turn(session, turn(3, [*prompt(30), *prompt(30, 6)], 10))
    assert third.cached_tokens == 30


def test_the_cache_changes_no_answer_to_the_last_bit_of_the_seed(tiny):
    sampling = Sampling(temperature=1.2, top_k=0, top_p=0.98, seed=5)
    tokens = prompt(90)
    cold = alone(tiny, turn(1, tokens, 30, sampling))
    session = open_slots(tiny)
    run_turn(session, turn(1, [*tokens[:41], *prompt(30, 9)], 5))
    busy = [turn(number, prompt(20, number), 40, Sampling(temperature=1.0, seed=number)) for number in (3, 4, 5)]
    answers = run_turns(session, [*busy[:2], turn(2, tokens, 30, sampling), busy[2]])
    assert answers[2].cached_tokens == 41
    assert answers[2].tokens == cold


def test_an_end_of_sequence_token_ends_the_turn_and_is_left_out(tiny):
    answer = alone(tiny, turn(1, prompt(9), 12))
    end = next(token for token in answer if answer.index(token) > 2)
    session = open_slots(tiny, eos_token_id=[end])
    stopped = run_turn(session, turn(1, prompt(9), 12, ignore_eos=False))
    assert stopped.finish == "stop"
    assert stopped.tokens == answer[: answer.index(end)]
    ignored = run_turn(session, turn(2, prompt(9), 12, ignore_eos=True))
    assert ignored.finish == "length"
    assert ignored.tokens == answer


def test_a_follow_up_gets_the_answer_that_it_gets_without_a_cache(any_tiny):
    session = open_slots(any_tiny)
    conversation = prompt(30)
    for round_number in range(5):
        answer = run_turn(session, turn(round_number, conversation, 12))
        assert answer.tokens == alone(any_tiny, turn(0, conversation, 12))
        assert answer.cached_tokens > 0 or round_number == 0
        conversation = [*conversation, *answer.tokens, *prompt(6, round_number)]


def test_a_stop_token_ends_the_turn_and_is_named(tiny):
    answer = alone(tiny, turn(1, prompt(9), 12))
    stop = next(token for token in answer if answer.index(token) > 2)
    stopped = run_steps(tiny, Turn(1, prompt(9), 12, GREEDY, True, stop_token_ids=frozenset({stop, 5})))
    assert [token for event in stopped for token in event.tokens] == answer[: answer.index(stop)]
    assert (stopped[-1].finish, stopped[-1].stop_token) == ("stop", stop)


def test_nothing_ends_a_turn_before_its_least_length(tiny):
    answer = alone(tiny, turn(1, prompt(9), 12))
    end, stop = (next(token for token in answer if answer.index(token) == at) for at in (0, 1))
    ends = {"eos_token_id": [end]}
    events = run_steps(tiny, Turn(1, prompt(9), 12, GREEDY, False, 7, frozenset({stop})), **ends)
    tokens = [token for event in events for token in event.tokens]
    assert len(tokens) >= 7
    assert not {end, stop} & set(tokens[:7])
    shortest = run_steps(tiny, Turn(1, prompt(9), 12, GREEDY, False, 0, frozenset({stop})), **ends)
    assert [event.finish for event in shortest if event.finish] == ["stop"]
    assert len([token for event in shortest for token in event.tokens]) == 0


def test_log_probabilities_come_with_every_token(tiny):
    asked = Turn(1, prompt(9), 4, Sampling(temperature=1.0, top_k=0, seed=1), True, top_logprobs=3)
    events = [event for event in run_steps(tiny, asked) if event.tokens]
    assert len(events) == 4
    for event in events:
        (one,) = event.logprobs
        assert one.token == event.tokens[0]
        assert one.logprob <= one.top[0][1] <= 0
        assert [value for _, value in one.top] == sorted((value for _, value in one.top), reverse=True)
        assert len(one.top) == 3
    chosen_only = run_steps(tiny, Turn(1, prompt(9), 1, GREEDY, True, top_logprobs=0))
    assert chosen_only[-1].logprobs[0].top == ()
    assert run_steps(tiny, turn(1, prompt(9), 1))[-1].logprobs == ()


def run_steps(folder, one, **options):
    """Return all events of a turn."""
    session, events = open_slots(folder, **options), []
    session.check(one)
    session.admit(one)
    while not events or not (events[-1].finish or events[-1].error):
        events += session.step()
    return events


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
    assert "not a number" in str(answers[2].error.fields["detail"])
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


def test_a_prompt_of_one_token_is_answered(tiny):
    session = open_slots(tiny)
    both = [turn(1, [7], 6), turn(2, prompt(20), 6)]
    answers = run_turns(session, both)
    assert {one.id: answers[one.id].tokens for one in both} == {one.id: alone(tiny, one) for one in both}


def test_more_turns_than_slots_wait_inside(tiny):
    session = open_slots(tiny, slots=2)
    for number in range(5):
        session.admit(turn(number, prompt(6, number), 3))
    finished = {event.turn_id for _ in range(60) for event in session.step() if event.finish}
    assert finished == {0, 1, 2, 3, 4}


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
    with pytest.raises(LoadError, match=r"kB a token"):
        open_slots(tiny, budget=1000)


def test_a_budget_that_the_system_does_not_grant_is_refused(tiny):
    beyond_any_address_space = 2**44
    with pytest.raises(LoadError, match="smaller budget"):
        open_slots(tiny, budget=2**60, context_length=beyond_any_address_space)


def test_a_graph_that_does_not_fit_its_weights_is_refused(tmp_path):
    folder = write_tiny_model(tmp_path)
    (folder / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(LoadError, match=r"model\.slots\.onnx"):
        open_slots(folder)
