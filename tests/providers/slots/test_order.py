"""Whose turn it is: prompts in chunks, beginnings that are shared, slots that are waited for."""

from cupola.provider import Sampling
from cupola.testing.sessions import run_turn, run_turns
from providers.slots.sessions import alone, open_slots, prompt, turn


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


def test_more_turns_than_slots_wait_inside(tiny):
    session = open_slots(tiny, slots=2)
    for number in range(5):
        session.admit(turn(number, prompt(6, number), 3))
    finished = {event.turn_id for _ in range(60) for event in session.step() if event.finish}
    assert finished == {0, 1, 2, 3, 4}
