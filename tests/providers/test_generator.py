import numpy as np
import onnxruntime_genai as og
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.provider import Limits, ModelFiles, Sampling, Turn
from cupola.testing.sessions import SessionSuite, run_turn
from cupola_providers.runtime import generator
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.generator import (
    GeneratorSession,
    KeyValueCache,
    capacity_for,
    common_prefix,
    first_chunk,
)
from cupola_providers.runtime.loading import RuntimeSetup, open_model, open_session
from cupola_providers.runtime.tokenizer import GenaiTokenizer
from tiny_model import write_tiny_model

EOS = 2


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), context=512)


@pytest.fixture(scope="module")
def long_path(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("long"), context=8192)


def opened(path, **limits):
    return open_session(
        ModelFiles("tiny:1", path), setup=RuntimeSetup(threads=1, session="generator"), limits=Limits(**limits)
    )


def untried(path, **limits):
    """A session of a model that would be refused when it is opened."""
    config, files = read_config(path), ModelFiles("tiny:1", path)
    model = open_model(files, config, RuntimeSetup(threads=1))
    return GeneratorSession(model, config, GenaiTokenizer(path, config), Limits(**limits))


@pytest.fixture
def session(tiny_path):
    session = opened(tiny_path, prefill_chunk=32)
    yield session
    session.close()


def turn(prompt, max_tokens, turn_id=1, *, ignore_eos=True, **sampling):
    return Turn(turn_id, prompt, max_tokens, Sampling(temperature=0.0, **sampling), ignore_eos)


class TestConformance(SessionSuite):
    @pytest.fixture
    def session(self, session):
        return session


class TestConformanceWhileTheCacheGrowsAndShrinksAllTheTime(SessionSuite):
    @pytest.fixture
    def session(self, session, monkeypatch):
        monkeypatch.setattr(generator, "SMALLEST_CAPACITY", 8)
        monkeypatch.setattr(generator, "KEPT_CAPACITY", 8)
        monkeypatch.setattr(generator, "ROOMY_TURNS", 2)
        monkeypatch.setattr(generator, "ANSWER_RESERVE", 3)
        session._cache.clear()
        return session


class TestConformanceOfAModelThatCannotGoBack(SessionSuite):
    @pytest.fixture
    def session(self, session, monkeypatch):
        class Forward(og.Generator):
            def rewind_to(self, length):
                raise RuntimeError("RewindTo is not supported for this model")

        monkeypatch.setattr(generator.og, "Generator", Forward)
        session._cache.clear()
        return session


def own_greedy(session, prompt, count):
    """What the library's own loop answers."""
    params = og.GeneratorParams(session._model)
    params.set_search_options(max_length=len(prompt) + count + 1, do_sample=False)
    library = og.Generator(session._model, params)
    library.append_tokens(prompt)
    tokens = []
    for _ in range(count):
        library.generate_next_token()
        tokens.append(int(library.get_next_tokens()[0]))
    return tokens


def test_greedy_answers_are_those_of_the_librarys_own_loop(session):
    prompt = list(range(20, 60))
    expected = own_greedy(session, prompt, 40)
    if EOS in expected:
        expected = expected[: expected.index(EOS)]
    assert run_turn(session, turn(prompt, len(expected))).tokens == expected


def test_the_starter_model_counts(starter_model_path):
    session = opened(starter_model_path)
    prompt = session.tokenizer.encode("one, two, three, four, five, six,")
    answer = run_turn(session, turn(prompt, 6))
    stream = session.tokenizer.stream()
    assert "".join(stream.push(token) for token in answer.tokens).startswith(" seven, eight")


def test_an_end_of_sequence_token_stops_and_is_not_part_of_the_answer(session):
    answer = run_turn(session, turn([20, 21], 9, ignore_eos=False, logit_bias={EOS: 1000.0}))
    assert (answer.tokens, answer.finish) == ([], "stop")


def test_an_end_of_sequence_token_can_be_ignored(session):
    answer = run_turn(session, turn([20, 21], 3, logit_bias={EOS: 1000.0}))
    assert (answer.tokens, answer.finish) == ([EOS] * 3, "length")


def test_the_last_token_of_an_answer_is_never_computed(session):
    run_turn(session, turn([20, 21, 22], 5))
    assert len(session._cache.tokens) == 3 + 5 - 1


def test_the_first_token_comes_with_the_last_chunk_of_the_prompt(session):
    session.admit(turn(list(range(20, 20 + 33)), 2))
    assert [len(session.step()[0].tokens) for _ in range(3)] == [0, 1, 1]


def test_cached_tokens_are_those_that_are_not_computed_again(session):
    prompt = list(range(20, 80))
    first = run_turn(session, turn(prompt, 4))
    again = run_turn(session, turn(prompt, 4))
    longer = run_turn(session, turn([*prompt, *again.tokens, 30, 31], 4))
    shorter = run_turn(session, turn([*prompt[:10], 99, 98], 4))
    cached = [answer.cached_tokens for answer in (first, again, longer, shorter)]
    assert cached == [0, 58, 60, 10]


def test_what_a_cancelled_turn_computed_is_still_cached(session):
    prompt = list(range(20, 120))
    session.admit(turn(prompt, 4))
    session.step()
    session.cancel(1)
    assert run_turn(session, turn(prompt, 1, 2)).cached_tokens == 32


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (turn([20, 100_000], 4), "InvalidParameterError"),
        (turn([20, -1], 4), "InvalidParameterError"),
        (turn([], 4), "InvalidParameterError"),
        (turn([20] * 500, 100), "ContextLengthExceededError"),
        (turn([20], 4, top_p=7.0), "InvalidParameterError"),
    ],
)
def test_a_turn_that_cannot_run_fails_alone(session, bad, kind):
    answer = run_turn(session, bad)
    assert answer.error.kind == kind
    assert (answer.tokens, answer.steps) == ([], 1)
    assert run_turn(session, turn([20], 2)).finish == "length"


def test_a_refused_turn_can_be_cancelled(session):
    session.admit(turn([-1], 4))
    session.cancel(1)
    assert list(session.step()) == []


def test_output_that_is_not_a_number_fails_the_turn(tmp_path):
    weights = write_tiny_model(tmp_path) / "model.onnx.data"
    weights.write_bytes(b"\xff" * weights.stat().st_size)  # as float32: NaN
    answer = run_turn(untried(tmp_path), turn([20], 4))
    assert answer.tokens == []
    assert "NaN or infinite" in answer.error.fields["detail"]


def test_a_forward_pass_that_fails_fails_its_turn_and_forgets_the_cache(session):
    run_turn(session, turn([20, 21], 2))
    session._cache.capacity = 10_000  # a lie that makes the library refuse
    answer = run_turn(session, turn(list(range(20, 300)), 4))
    assert "The model failed underway" in answer.error.fields["detail"]
    assert run_turn(session, turn([20, 21], 2)).cached_tokens == 0


def test_the_context_is_the_smaller_of_the_models_and_the_limit(tiny_path):
    assert opened(tiny_path).context_length == 512
    assert opened(tiny_path, context_length=300).context_length == 300
    assert opened(tiny_path, context_length=4096).context_length == 512


def test_memory_follows_what_turns_need_and_not_the_context(long_path):
    session = opened(long_path)
    assert session._cache.capacity == 256
    run_turn(session, turn([20] * 20, 10))
    assert session._cache.capacity == 256
    session.admit(turn([20] * 20, 8000))
    session.step()
    session.cancel(1)
    assert session._cache.capacity == 1024


def test_an_answer_that_outlives_its_cache_goes_on_in_a_larger_one(long_path, monkeypatch):
    expected = run_turn(opened(long_path), turn([20, 21], 300)).tokens
    monkeypatch.setattr(generator, "SMALLEST_CAPACITY", 32)
    monkeypatch.setattr(generator, "ANSWER_RESERVE", 4)
    session = opened(long_path, prefill_chunk=64)
    answer = run_turn(session, turn([20, 21], 300))
    assert answer.tokens == expected
    assert session._cache.capacity == 512


def test_a_huge_cache_is_given_back_after_some_short_turns(long_path):
    cache = KeyValueCache(opened(long_path)._model, 8192)
    cache.begin([20] * 5000, 100)
    assert cache.capacity == 8192
    seen = []
    for _ in range(5):
        cache.begin([20] * 100, 100)
        seen.append(cache.capacity)
    assert seen == [8192, 8192, 8192, 256, 256]


def test_a_cache_of_ordinary_size_is_kept(long_path):
    cache = KeyValueCache(opened(long_path)._model, 8192)
    cache.begin([20] * 600, 400)
    for _ in range(20):
        cache.begin([20], 1)
    assert cache.capacity == 1024


def test_capacities_double_up_to_the_context():
    assert [capacity_for(n, 3000) for n in (1, 256, 257, 1025, 2049, 9999)] == [256, 256, 512, 2048, 3000, 3000]


def test_a_common_prefix_is_counted_from_the_start():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2, 3], [1, 2]) == 2
    assert common_prefix([], [1]) == 0


class Conversation:
    """A KV cache that is used by one turn after the other, and a fresh one to compare with."""

    def __init__(self, path):
        config = read_config(path)
        self.model = open_model(ModelFiles("tiny:1", path), config, RuntimeSetup(threads=1))
        self.used = KeyValueCache(self.model, 512)

    def logits(self, cache, prompt, answer, sizes):
        """Run a turn as the session does: the prompt in chunks, then the answer token by token."""
        pending = prompt[cache.begin(prompt, len(answer)) :]
        for size in sizes:
            chunk = first_chunk(pending, size)
            if chunk:
                cache.append(chunk)
            pending = pending[len(chunk) :]
        if pending:
            cache.append(pending)
        seen = [cache.logits().copy()]
        for token in answer:
            cache.append([token])
            seen.append(cache.logits().copy())
        return np.concatenate(seen)


@pytest.fixture(scope="module")
def conversation(tiny_path):
    return Conversation(tiny_path)


tokens = st.lists(st.integers(3, 60), min_size=1, max_size=40)


@given(st.lists(st.tuples(tokens, tokens, st.lists(st.integers(3, 30), max_size=4)), min_size=2, max_size=4))
@settings(deadline=None, max_examples=40)
def test_reuse_changes_no_logit_by_a_single_bit(conversation, turns):
    history = []
    for question, answer, sizes in turns:
        history = [*history, *question]
        reused = conversation.logits(conversation.used, history, answer, sizes)
        fresh = conversation.logits(KeyValueCache(conversation.model, 512), history, answer, [])
        assert np.array_equal(reused, fresh)
        history = [*history, *answer]
