"""Guessing ahead: it is noticed where it pays, and changes no answer whether it does or not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.provider import Guidance, Sampling, Turn
from cupola.testing.sessions import SessionSuite, run_turn, run_turns
from cupola_plugins.gguf import Layout
from cupola_providers.runtime.slots.speculation import MOST_ROWS, SHORTEST_MATCH, Drafter, Pace, Speculation
from providers.slots.orders import carry_out, orders
from providers.slots.sessions import GREEDY, VOCAB, open_slots, prompt
from tiny_model import write_tiny_model

WARM = Sampling(temperature=0.7, top_k=40, top_p=0.95, repetition_penalty=1.05, seed=11)
NARROW = {17: 60.0, 23: 60.0, 40: 60.0}
"""With nothing but these three tokens to choose from, even a random model repeats itself."""

NARROW_GREEDY = Sampling(temperature=0.0, logit_bias=NARROW)
NARROW_WARM = Sampling(temperature=2.0, logit_bias=NARROW, seed=4)


@pytest.fixture(
    scope="module",
    params=[
        {"layout": Layout.INT8_ROWS},
        {"layout": Layout.INT4_BLOCKS, "heads": 6, "kv_heads": 3, "head_size": 32, "hidden": 96},
    ],
    ids=str,
)
def folder(request, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), seed=5, **request.param)


def repeating(length, seed=0):
    """A prompt in which whatever comes has often been seen."""
    return (prompt(9, seed) * length)[:length]


def turn(turn_id, tokens, max_tokens=40, sampling=GREEDY, **others):
    return Turn(turn_id, tokens, max_tokens, sampling, ignore_eos=True, **others)


def plain(folder, one, **options):
    session = open_slots(folder, speculation=False, **options)
    answer = run_turn(session, one)
    session.close()
    return answer


@pytest.fixture
def always(monkeypatch):
    """Check every guess there is, whatever it costs."""
    monkeypatch.setattr(Pace, "pays", lambda self, rows, expected: expected > 0 and rows in self._plain)


@pytest.mark.usefixtures("always")
class TestASessionThatChecksEveryGuess(SessionSuite):
    vocab_size = VOCAB

    @pytest.fixture
    def session(self, folder):
        session = open_slots(folder)
        yield session
        session.close()


@pytest.mark.usefixtures("always")
def test_guesses_are_checked_and_save_steps(folder):
    one = turn(1, repeating(60), 120, NARROW_GREEDY)
    expected = plain(folder, one)
    session = open_slots(folder)
    events, steps = [], 0
    session.admit(one)
    while not (events and events[-1].finish):
        events += session.step()
        steps += 1
    assert [token for event in events for token in event.tokens] == expected.tokens
    assert all(len(event.tokens) <= 1 for event in events)
    assert steps < 100


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("sampling", [GREEDY, WARM, NARROW_GREEDY, NARROW_WARM])
def test_guessing_changes_no_answer(folder, sampling):
    turns = [turn(n, repeating(20 + 7 * n, n), 60, sampling) for n in range(3)]
    together = run_turns(open_slots(folder), turns)
    for one in turns:
        assert together[one.id].tokens == plain(folder, one).tokens


KINDS = range(5)


def turn_of_kind(turn_id, kind, max_tokens):
    sampling = (NARROW_GREEDY, GREEDY, NARROW_WARM, WARM, NARROW_GREEDY)[kind]
    tokens = repeating(11 + 17 * kind, kind % 2) if kind < 3 else prompt(11 + 17 * kind)
    return turn(turn_id, tokens, max_tokens, sampling)


@pytest.fixture(scope="module")
def expected_answers(folder):
    return {kind: plain(folder, turn_of_kind(0, kind, 24)).tokens for kind in KINDS}


@settings(max_examples=40, deadline=None)
@given(st.lists(orders(KINDS, most_tokens=24), max_size=30))
def test_no_order_of_joining_cancelling_and_leaving_lets_a_guess_change_an_answer(
    folder, expected_answers, given_orders
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "pays", lambda self, rows, expected: expected > 0 and rows in self._plain)
        carry_out(open_slots(folder, slots=3), turn_of_kind, expected_answers, given_orders)


@settings(max_examples=15, deadline=None)
@given(st.lists(orders(KINDS, most_tokens=24), max_size=30))
def test_nor_does_it_matter_when_guesses_are_thought_to_pay(folder, expected_answers, given_orders):
    carry_out(open_slots(folder, slots=3), turn_of_kind, expected_answers, given_orders)


@pytest.mark.usefixtures("always")
def test_what_is_kept_of_a_guessed_answer_is_what_is_kept_of_a_plain_one(folder):
    session = open_slots(folder)
    conversation = repeating(30)
    for round_number in range(4):
        answer = run_turn(session, turn(round_number, conversation, 20, NARROW_WARM))
        assert answer.tokens == plain(folder, turn(0, conversation, 20, NARROW_WARM)).tokens
        conversation = [*conversation, *answer.tokens, *prompt(6, round_number)]


@pytest.mark.usefixtures("always")
def test_a_guessed_answer_ends_where_a_plain_one_ends(folder):
    tokens = repeating(40)
    bias = dict.fromkeys(range(20, 26), 60.0)
    sampling = Sampling(temperature=1.5, logit_bias=bias, seed=8)
    answer = plain(folder, turn(1, tokens, 60, sampling)).tokens
    end = next(token for token in reversed(answer) if answer.index(token) > 4)
    for eos, stops in ((end, ()), (299, (end,))):
        one = Turn(1, tokens, 60, sampling, False, 0, frozenset(stops))
        stopped = run_turn(open_slots(folder, eos_token_id=[eos]), one)
        assert stopped.finish == "stop"
        assert stopped.tokens == answer[: answer.index(end)]
    assert len(run_turn(open_slots(folder), turn(1, tokens, 33)).tokens) == 33


@pytest.mark.usefixtures("always")
def test_a_guided_answer_is_the_same_when_it_is_guessed_ahead(folder):
    one = Turn(1, repeating(30), 60, Sampling(temperature=0.8, seed=3), guidance=Guidance("regex", "(ab|cd){4,30}"))
    assert run_turn(open_slots(folder), one).tokens == plain(folder, one).tokens


@pytest.mark.usefixtures("always")
def test_log_probabilities_are_the_same_when_an_answer_is_guessed_ahead(folder):
    one = turn(1, repeating(30), 30, NARROW_GREEDY, top_logprobs=2)
    found = []
    for speculation in (True, False):
        session = open_slots(folder, speculation=speculation)
        session.admit(one)
        found.append([event.logprobs for _ in range(40) for event in session.step() if event.tokens])
    assert len(found[0]) == 30
    assert found[0] == found[1]


def test_with_too_small_a_budget_nothing_is_guessed_and_the_reason_does_not_claim_it(folder):
    assert "where it is faster" in open_slots(folder).reason
    assert "where it is faster" not in open_slots(folder, speculation=False).reason


def test_a_drafter_continues_the_latest_of_the_longest_matches():
    drafter = Drafter([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3])
    assert drafter.guess(3) == [7, 9, 2]  # 1 2 3 is longer than the later 2 3
    assert Drafter([1, 2, 5, 1, 2, 6, 1, 2]).guess(2) == [6, 1]


def test_a_drafter_guesses_nothing_from_a_single_token():
    assert SHORTEST_MATCH == 2
    assert Drafter([1, 2, 3, 9, 2]).guess(3) == []
    assert Drafter([4]).guess(3) == []
    assert Drafter([4, 4]).guess(3) == []


def test_a_drafter_goes_on_repeating_what_repeats():
    assert Drafter([5, 6, 5, 6, 5, 6]).guess(5) == [5, 6, 5, 6, 5]
    assert Drafter([9, 4, 4, 4, 4]).guess(3) == [4, 4, 4]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 6))
def test_a_guess_follows_a_place_where_the_last_tokens_stood_before(history, most):
    guess = Drafter(history).guess(most)
    occurs = [
        at
        for at in range(SHORTEST_MATCH, len(history))
        if history[at - SHORTEST_MATCH : at] == history[-SHORTEST_MATCH:]
    ]
    assert len(guess) == (most if occurs else 0)
    assert not guess or guess[0] in {history[at] for at in occurs}


@given(st.lists(st.integers(0, 3), max_size=400))
def test_a_drafter_that_grew_guesses_as_one_that_started_there(tokens):
    grown = Drafter([1])
    for token in tokens:
        grown.add(token)
    assert grown.guess(4) == Drafter([1, *tokens]).guess(4)


def test_a_drafter_keeps_score_of_guesses_that_nobody_used():
    drafter = Drafter([1, 2, 3] * 10)
    before = drafter.rate
    for token in [1, 2, 3] * 5:
        drafter.guess(3)
        drafter.add(token)
    assert drafter.rate > 0.8 > before
    for number in range(30):
        drafter.add(1)
        drafter.add(2)
        assert drafter.guess(3)
        drafter.add(100 + number)
    assert drafter.rate < 0.2


class OneTurn:
    def __init__(self, turn_id, prompt, pending):
        self.id, self.prompt, self.pending = turn_id, prompt, pending


def test_many_turns_at_once_are_not_guessed():
    speculation = Speculation(4)
    rows = [OneTurn(number, [1, 2, 3] * 9, [1]) for number in range(MOST_ROWS + 1)]
    assert speculation.drafts(rows) == {}


def pace_of(ratio, *, rounds=60):
    pace = Pace()
    pace.add(1, 0.01, guessed=False)
    for _ in range(rounds):
        pace.add(1, 0.01 * ratio, guessed=True)
    pace.add(1, 0.01, guessed=False)
    return pace


def test_what_guesses_cost_is_learned():
    assert pace_of(1.2).pays(1, 0.3)
    assert not pace_of(1.2).pays(1, 0.15)
    assert not pace_of(2.5).pays(1, 1.4)
    assert pace_of(2.5).pays(1, 2.0)


def test_guesses_are_given_another_chance_after_a_slow_time():
    pace = pace_of(4.0)
    assert not pace.pays(1, 2.0)
    for _ in range(400):
        pace.add(1, 0.01, guessed=False)
    assert pace.pays(1, 2.0)


def test_the_plain_pass_is_measured_again_now_and_then():
    pace = pace_of(1.2)
    passes = 0
    while pace.pays(1, 2.0):
        pace.add(1, 0.012, guessed=True)
        passes += 1
    assert 10 < passes < 50
