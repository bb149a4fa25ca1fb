"""Conformance tests for sessions: subclass `SessionSuite` and provide a session.

Example::

    from cupola.testing.sessions import SessionSuite

    class TestMySession(SessionSuite):
        vocab_size = 512

        @pytest.fixture
        def session(self):
            session = MyProvider().load(files, device, MyOptions(), Limits(prefill_chunk=self.prefill_chunk))
            yield session
            session.close()
"""

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from cupola.contracts import Logprob, Session, TokenEvent, Turn
from cupola.errors import InvalidParameterError, RequestError, WireError
from cupola.messages import FinishReason, Guidance, Sampling

GREEDY = Sampling(temperature=0.0)


@dataclass(slots=True)
class Answer:
    """The result of one turn.

    Attributes:
        tokens: The generated tokens.
        logprobs: One entry per token if the turn requests them.
        stop_token: The stop token that ended the turn.
        finish: Why the turn ended; None if it failed or is not over.
        error: The error of a failed turn.
        cached_tokens: Number of prompt tokens from the KV cache.
        steps: Number of steps with an event of the turn.
        silent_steps: Number of steps before the first token, which are its prefill.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    stop_token: int | None = None
    finish: FinishReason | None = None
    error: WireError | None = None
    cached_tokens: int = 0
    steps: int = 0
    silent_steps: int = 0

    @property
    def over(self) -> bool:
        """Whether the turn has ended."""
        return self.finish is not None or self.error is not None

    def add(self, event: TokenEvent) -> None:
        """Add an event.

        Raises:
            AssertionError: The turn has already ended, or the event has both a finish reason and an error.
        """
        assert not self.over, f"turn {event.turn_id} got an event after its last one"
        assert event.finish is None or event.error is None, f"turn {event.turn_id} both finished and failed"
        self.silent_steps += not self.tokens and not event.tokens
        self.steps += 1
        self.tokens += event.tokens
        self.logprobs += event.logprobs
        self.stop_token = event.stop_token
        self.finish, self.error, self.cached_tokens = event.finish, event.error, event.cached_tokens


def run_turns(session: Session, turns: Iterable[Turn], *, max_steps: int = 20_000) -> dict[int, Answer]:
    """Run turns like a worker: admit them while there is capacity, and step until all have ended.

    Raises:
        AssertionError: An event belongs to no active turn, follows a turn's last event, or `max_steps` is exceeded.
    """
    waiting = list(turns)
    answers: dict[int, Answer] = {}
    active: set[int] = set()
    for _ in range(max_steps):
        while waiting and len(active) < session.capacity:
            turn = waiting.pop(0)
            answers[turn.id] = Answer()
            active.add(turn.id)
            session.admit(turn)
        if not active:
            return answers
        for event in session.step():
            assert event.turn_id in active, f"received an event of turn {event.turn_id}, which is not active"
            answers[event.turn_id].add(event)
            if answers[event.turn_id].over:
                active.remove(event.turn_id)
    raise AssertionError(f"turns {sorted(active)} have not ended after {max_steps} steps")


def run_turn(session: Session, turn: Turn) -> Answer:
    """Run a single turn."""
    return run_turns(session, [turn])[turn.id]


class SessionSuite:
    """Conformance tests for sessions. Override the fixture `session`, and the attributes if they differ.

    Attributes:
        vocab_size: Exclusive upper bound of the tokens in prompts.
        first_token: The first ordinary token.
        prefill_chunk: The limit that the session was opened with.
        unsupported: Fields of `Turn` that the session does not support: "stop_token_ids", "min_tokens", "top_logprobs",
            "guidance". It must refuse them in `check`.
    """

    unsupported: frozenset[str] = frozenset()
    vocab_size = 256
    first_token = 16
    prefill_chunk = 32

    @pytest.fixture
    def session(self) -> Session:
        """Return an open session with a context length of at least 256. Each test gets a new one."""
        raise NotImplementedError("override the fixture `session`")

    def prompt(self, length: int, *, seed: int = 1) -> list[int]:
        """Return a deterministic prompt. Prompts of different seeds share no long prefix."""
        span = self.vocab_size - self.first_token
        return [self.first_token + (seed * 7919 + n * n * 31 + n * 17) % span for n in range(length)]

    def turn(self, turn_id: int, prompt: Sequence[int], max_tokens: int, sampling: Sampling = GREEDY) -> Turn:
        """Return a turn that ends exactly at `max_tokens`."""
        return Turn(turn_id, prompt, max_tokens, sampling, ignore_eos=True)

    def supported(self, session: Session, turn: Turn, field_name: str) -> Turn:
        """Return a turn that uses a field. If it is unsupported, check that it is rejected, and skip the test."""
        if field_name in self.unsupported:
            with pytest.raises(RequestError):
                session.check(turn)
            pytest.skip(f"does not support {field_name}")
        session.check(turn)
        return turn

    def test_it_describes_itself(self, session: Session) -> None:
        assert session.kind
        assert session.reason
        assert session.capacity >= 1
        assert session.context_length >= 256
        assert session.threads >= 0

    def test_a_turn_ends_at_max_tokens_with_length(self, session: Session) -> None:
        for turn_id, max_tokens in enumerate((1, 2, 17)):
            answer = run_turn(session, self.turn(turn_id, self.prompt(5), max_tokens))
            assert answer.error is None
            assert answer.finish == "length"
            assert len(answer.tokens) == max_tokens

    def test_greedy_answers_are_the_same_every_time(self, session: Session) -> None:
        first = run_turn(session, self.turn(1, self.prompt(20), 16))
        assert run_turn(session, self.turn(2, self.prompt(20), 16)).tokens == first.tokens

    def test_the_same_seed_gives_the_same_answer(self, session: Session) -> None:
        sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=7)
        first = run_turn(session, self.turn(1, self.prompt(20), 16, sampling))
        assert run_turn(session, self.turn(2, self.prompt(20), 16, sampling)).tokens == first.tokens

    def test_different_seeds_give_different_answers(self, session: Session) -> None:
        answers = set()
        for seed in range(4):
            sampling = Sampling(temperature=1.5, top_k=0, top_p=1.0, seed=seed)
            answers.add(tuple(run_turn(session, self.turn(seed, self.prompt(20), 24, sampling)).tokens))
        assert len(answers) > 1

    def test_a_long_prompt_advances_in_bounded_steps(self, session: Session) -> None:
        length = 5 * self.prefill_chunk
        answer = run_turn(session, self.turn(1, self.prompt(length), 1))
        assert answer.silent_steps >= (length - answer.cached_tokens) // self.prefill_chunk - 1

    def test_admitting_computes_nothing(self, session: Session) -> None:
        run_turn(session, self.turn(1, self.prompt(8), 1))
        prompt = self.prompt(6 * self.prefill_chunk, seed=2)
        started = time.perf_counter()
        session.admit(self.turn(2, prompt, 1))
        admitted = time.perf_counter()
        answer = Answer()
        while not answer.over:
            for event in session.step():
                answer.add(event)
        assert admitted - started < max(0.02, time.perf_counter() - admitted)

    def test_a_cancelled_turn_gets_no_further_event_and_the_session_goes_on(self, session: Session) -> None:
        expected = run_turn(session, self.turn(1, self.prompt(8), 8)).tokens
        session.admit(self.turn(2, self.prompt(5 * self.prefill_chunk, seed=2), 50))
        session.step()
        session.cancel(2)
        assert run_turn(session, self.turn(3, self.prompt(8), 8)).tokens == expected
        session.admit(self.turn(4, self.prompt(8, seed=4), 50))
        for _ in range(4):
            session.step()
        session.cancel(4)
        assert run_turn(session, self.turn(5, self.prompt(8), 8)).tokens == expected

    def test_cancelling_before_the_first_step_or_a_stranger_changes_nothing(self, session: Session) -> None:
        session.cancel(99)
        session.admit(self.turn(1, self.prompt(8, seed=3), 50))
        session.cancel(1)
        session.cancel(1)
        assert run_turn(session, self.turn(2, self.prompt(8), 4)).finish == "length"

    def test_a_prefix_from_the_cache_changes_no_token(self, session: Session) -> None:
        prompt, tail = self.prompt(48), self.prompt(30, seed=5)
        cold = run_turn(session, self.turn(1, prompt, 12))
        in_between = ([*prompt[:20], *tail], [*prompt, *cold.tokens, *tail], prompt, prompt[:30], tail)
        for turn_id, other in enumerate(in_between, start=2):
            run_turn(session, self.turn(10 * turn_id, other, 4))
            warm = run_turn(session, self.turn(turn_id, prompt, 12))
            assert warm.tokens == cold.tokens
            assert warm.cached_tokens < len(prompt)

    def test_turns_that_share_the_session_answer_as_they_do_alone(self, session: Session) -> None:
        turns = [self.turn(n, self.prompt(4 + 9 * n, seed=n), 6 + n) for n in range(session.capacity + 2)]
        alone = {turn.id: run_turn(session, turn).tokens for turn in turns}
        together = run_turns(session, turns)
        assert {turn_id: answer.tokens for turn_id, answer in together.items()} == alone
        assert {answer.finish for answer in together.values()} == {"length"}

    def test_an_answer_may_fill_the_context_to_the_last_token(self, session: Session) -> None:
        if session.context_length > 2048:
            pytest.skip("the context is too long to fill it in a test; limit it in the fixture")
        answer = run_turn(session, self.turn(1, self.prompt(session.context_length - 8), 8))
        assert answer.error is None
        assert len(answer.tokens) == 8

    def test_a_stop_token_ends_an_answer_and_is_no_part_of_it(self, session: Session) -> None:
        turn = self.turn(1, self.prompt(9), 24)
        free = run_turn(session, turn).tokens
        stop = free[-1]
        wanted = replace(turn, stop_token_ids=frozenset({stop}))
        answer = run_turn(session, self.supported(session, wanted, "stop_token_ids"))
        assert answer.tokens == free[: free.index(stop)]
        assert (answer.finish, answer.stop_token) == ("stop", stop)

    def test_no_answer_is_shorter_than_min_tokens(self, session: Session) -> None:
        turn = self.turn(1, self.prompt(9), 24)
        first = run_turn(session, turn).tokens[0]
        wanted = replace(turn, stop_token_ids=frozenset({first}), min_tokens=5)
        answer = run_turn(session, self.supported(session, wanted, "min_tokens"))
        assert len(answer.tokens) >= 5
        assert first not in answer.tokens

    def test_log_probabilities_are_the_models_own_whatever_is_chosen(self, session: Session) -> None:
        turn = replace(self.turn(1, self.prompt(9), 6), top_logprobs=4)
        greedy = run_turn(session, self.supported(session, turn, "top_logprobs"))
        assert [one.token for one in greedy.logprobs] == greedy.tokens
        for one in greedy.logprobs:
            values = [value for _, value in one.top]
            assert one.top[0] == (one.token, one.logprob)
            assert len({token for token, _ in one.top}) == 4
            assert values == sorted(values, reverse=True)
            assert sum(math.exp(value) for value in values) < 1.0001
        forced = Sampling(temperature=0.7, logit_bias={self.first_token: 100.0}, seed=1)
        other = run_turn(session, replace(turn, sampling=forced, top_logprobs=4))
        assert other.tokens == [self.first_token] * 6
        assert [value for _, value in other.logprobs[0].top] == pytest.approx(
            [value for _, value in greedy.logprobs[0].top], abs=1e-3
        )
        assert other.logprobs[0].logprob <= greedy.logprobs[0].logprob + 1e-3

    def test_log_probabilities_may_be_asked_for_without_alternatives(self, session: Session) -> None:
        turn = replace(self.turn(1, self.prompt(9), 3), top_logprobs=0)
        answer = run_turn(session, self.supported(session, turn, "top_logprobs"))
        assert [(one.token, len(one.top)) for one in answer.logprobs] == [(token, 0) for token in answer.tokens]
        assert run_turn(session, self.turn(2, self.prompt(9), 3)).logprobs == []

    def test_a_guided_answer_is_one_of_the_choices(self, session: Session) -> None:
        turn = Turn(1, self.prompt(9), 64, guidance=Guidance("choice", '["yes", "no", "maybe so"]'))
        for seed in range(4):
            turn = replace(turn, sampling=Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=seed))
            answer = run_turn(session, self.supported(session, turn, "guidance"))
            assert answer.finish == "stop"
            assert self.text(session, answer) in ("yes", "no", "maybe so")

    def test_a_guided_answer_that_is_not_cut_is_json(self, session: Session) -> None:
        schema = (
            '{"type": "object", "properties": {"a": {"enum": [1, "x"]}, "b": {"type": "boolean"}}, "required": ["a"]}'
        )
        for seed in range(4):
            sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=seed)
            turn = Turn(seed, self.prompt(9), 120, sampling, guidance=Guidance("json_schema", schema))
            answer = run_turn(session, self.supported(session, turn, "guidance"))
            assert answer.error is None
            if answer.finish == "stop":
                assert json.loads(self.text(session, answer))["a"] in (1, "x")

    @pytest.mark.parametrize(
        "guidance",
        [
            Guidance("json_schema", '{"type": "strin"}', param="my_field"),
            Guidance("regex", "(", param="my_field"),
            Guidance("lark", "start: word", param="my_field"),
            Guidance("choice", "[]", param="my_field"),
        ],
        ids=lambda guidance: guidance.kind,
    )
    def test_what_cannot_guide_is_refused_before_the_turn_is_accepted(
        self, session: Session, guidance: Guidance
    ) -> None:
        with pytest.raises(RequestError) as caught:
            session.check(Turn(1, self.prompt(9), 8, guidance=guidance))
        if "guidance" not in self.unsupported:
            assert isinstance(caught.value, InvalidParameterError)
            assert caught.value.param == "my_field"

    def test_a_token_that_is_none_is_refused_before_the_turn_is_accepted(self, session: Session) -> None:
        for prompt in ([-1], [2**31 - 1]):
            with pytest.raises(RequestError):
                session.check(self.turn(1, prompt, 4))

    def text(self, session: Session, answer: Answer) -> str:
        """Return the text of an answer."""
        stream = session.tokenizer.stream()
        return "".join(map(stream.push, answer.tokens)) + stream.flush()

    def test_closing_twice_is_harmless(self, session: Session) -> None:
        session.close()
        session.close()
