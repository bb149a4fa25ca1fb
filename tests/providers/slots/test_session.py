"""The `slots` session on tiny random models: real graphs, real ONNX Runtime, no language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.provider import Sampling, Turn
from cupola.testing.sessions import SessionSuite, run_turn, run_turns
from providers.slots.orders import carry_out, orders
from providers.slots.sessions import GREEDY, VOCAB, alone, open_slots, prompt, run_steps, turn


class TestTheSlotsSession(SessionSuite):
    vocab_size = VOCAB

    @pytest.fixture(params=["tiny", "stock_tiny", "rewritten_tiny"])
    def session(self, request):
        session = open_slots(request.getfixturevalue(request.param))
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


def turn_of_kind(turn_id, kind, max_tokens):
    return turn(turn_id, prompt(7 + 21 * kind, kind % 3), max_tokens)  # kinds share prefixes


@pytest.fixture(scope="module")
def expected_answers(tiny):
    return {kind: alone(tiny, turn_of_kind(0, kind, 12)) for kind in KINDS}


@settings(max_examples=60, deadline=None)
@given(st.lists(orders(KINDS, most_tokens=12), max_size=40))
def test_any_order_of_joining_cancelling_and_leaving_changes_no_answer(tiny, expected_answers, given_orders):
    carry_out(open_slots(tiny, slots=3), turn_of_kind, expected_answers, given_orders)


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


def test_a_prompt_of_one_token_is_answered(tiny):
    session = open_slots(tiny)
    both = [turn(1, [7], 6), turn(2, prompt(20), 6)]
    answers = run_turns(session, both)
    assert {one.id: answers[one.id].tokens for one in both} == {one.id: alone(tiny, one) for one in both}
