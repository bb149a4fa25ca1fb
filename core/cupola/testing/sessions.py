"""What every session must do, as tests: subclass `SessionSuite` and give it one.

For a provider of your own::

    from cupola.testing.sessions import SessionSuite

    class TestMySession(SessionSuite):
        vocab_size = 512

        @pytest.fixture
        def session(self):
            session = MyProvider().load(files, device, MyOptions(), Limits(prefill_chunk=self.prefill_chunk))
            yield session
            session.close()
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from cupola.contracts import Logprob, Session, TokenEvent, Turn
from cupola.errors import WireError
from cupola.messages import FinishReason, Sampling

GREEDY = Sampling(temperature=0.0)


@dataclass(slots=True)
class Answer:
    """What came of one turn.

    Attributes:
        steps: Steps in which it had an event.
        silent_steps: Those among them, from the first on, in which it got no token: its prefill.
        stop_token: The stop token that ended it.
        logprobs: As reported, one per token where the turn asks for them.
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
        """Whether its last event has come."""
        return self.finish is not None or self.error is not None

    def add(self, event: TokenEvent) -> None:
        """Add an event.

        Raises:
            AssertionError: The turn was over already, or the event both fails and finishes it.
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
    """Run turns as a worker does: admit while there is capacity, step until all are over.

    Raises:
        AssertionError: An event came for no active turn or after a turn's last one, or it takes too many steps.
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
            assert event.turn_id in active, f"an event came for turn {event.turn_id}, which is not active"
            answers[event.turn_id].add(event)
            if answers[event.turn_id].over:
                active.remove(event.turn_id)
    raise AssertionError(f"turns {sorted(active)} are not over after {max_steps} steps")


def run_turn(session: Session, turn: Turn) -> Answer:
    """Run one turn by itself."""
    return run_turns(session, [turn])[turn.id]


class SessionSuite:
    """Conformance tests for sessions. Override the fixture `session`, and the numbers if yours differ.

    Attributes:
        vocab_size: Prompts are made of tokens below this and from `first_token` on.
        first_token: Where ordinary tokens start.
        prefill_chunk: The limit the session was opened with.
    """

    vocab_size = 256
    first_token = 16
    prefill_chunk = 32

    @pytest.fixture
    def session(self) -> Session:
        """Return an open session whose context holds at least 256 tokens. Each test gets one of its own."""
        raise NotImplementedError("override the fixture `session`")

    def prompt(self, length: int, *, seed: int = 1) -> list[int]:
        """Make a prompt, the same for the same seed, that shares no long prefix with another seed's."""
        span = self.vocab_size - self.first_token
        return [self.first_token + (seed * 7919 + n * n * 31 + n * 17) % span for n in range(length)]

    def turn(self, turn_id: int, prompt: Sequence[int], max_tokens: int, sampling: Sampling = GREEDY) -> Turn:
        """Make a turn that ends at `max_tokens` and not before."""
        return Turn(turn_id, prompt, max_tokens, sampling, ignore_eos=True)

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

    def test_closing_twice_is_harmless(self, session: Session) -> None:
        session.close()
        session.close()
