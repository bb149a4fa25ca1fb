"""One answer, as whoever asked saw it come, and what a handful of them says."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cupola.messages import Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, as messages and as the tokens that the model's template makes of them."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Times on the clock of `time.perf_counter`.

    Attributes:
        sent_at: Just before the request was sent.
        times: When each piece of text came; one piece is one token, mostly.
        ended_at: When the last one had come.
        prompt_tokens, completion_tokens, cached_tokens: As the answer tells.
    """

    sent_at: float
    times: Sequence[float]
    ended_at: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def ttft_s(self) -> float:
        """From sending to the first piece of text."""
        return (self.times[0] if self.times else self.ended_at) - self.sent_at

    @property
    def gaps_s(self) -> list[float]:
        """Between one piece of text and the next."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    @property
    def decode_per_s(self) -> float:
        """Tokens per second after the first one; 0 if there is no second one."""
        span = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return (self.completion_tokens - 1) / span if span else 0.0


def tokens_of(answers: Sequence[Answer]) -> int:
    """Return the tokens of all answers together."""
    return sum(answer.completion_tokens for answer in answers)


def span_s(answers: Sequence[Answer]) -> float:
    """Return the seconds from the first request to the end of the last answer."""
    return max(answer.ended_at for answer in answers) - min(answer.sent_at for answer in answers)


def median_ttft_s(answers: Sequence[Answer]) -> float:
    """Return the time to the first token that half of the answers did not exceed."""
    return statistics.median(answer.ttft_s for answer in answers)
