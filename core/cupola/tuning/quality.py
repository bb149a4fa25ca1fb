"""Prediction quality: perplexity on a short text, and divergence from another model's predictions."""

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from cupola.errors import RequestError
from cupola.messages import GenerateRequest, Sampling, TokenLogprob, TokenPrompt

TEXT = """The harbour lay quiet under a thin morning fog. Two fishermen mended their nets on the pier and talked about
the weather, the price of diesel, and a letter that one of them had received from his daughter in Lisbon. She had found
work in a small bakery, she wrote, where they began at three o'clock and sang until the ovens were warm. At nine the
ferry came in, eleven minutes late, with forty passengers, a red bicycle and a crate of oranges. def area(width,
height): return width * height. If a train leaves at 7:15 and needs 95 minutes, it arrives at 8:50."""
"""The text to score: prose, some code and some arithmetic."""

_FIRST_POSITION, _TOP = 4, 200
_FORCED = 1000.0

Predictions = list[dict[bytes, float]]
Run = Callable[[GenerateRequest], Awaitable[Sequence[TokenLogprob]]]
"""Runs a turn to its end and returns the log probabilities of its tokens."""


class TextScore(Struct, frozen=True):
    """A model's predictions at every position of a text.

    Attributes:
        tops: The most likely tokens with their natural log probabilities, per position.
        logprobs: The natural log probability of the actual token, per position.
    """

    tops: Predictions
    logprobs: tuple[float, ...]

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log probability per token; `nan` without predictions."""
        return math.exp(-statistics.fmean(self.logprobs)) if self.logprobs else math.nan


async def score_text(run: Run, text: Sequence[int], model: str = "") -> TextScore:
    """Score a text token by token; the score is empty if the session reports no log probabilities.

    A logit bias forces each token. The reported log probabilities are those of the model before the bias.
    """
    tops, logprobs = [], []
    for end in range(_FIRST_POSITION, len(text)):
        forced = Sampling(temperature=0.0, logit_bias={text[end]: _FORCED})
        prompt = TokenPrompt(tuple(text[:end]))
        request = GenerateRequest(model, prompt, forced, 1, ignore_eos=True, top_logprobs=_TOP)
        try:
            reported = await run(request)
        except RequestError:
            return TextScore([], ())
        tops += [dict(token.top) for token in reported]
        logprobs += [token.logprob for token in reported]
    return TextScore(tops, tuple(logprobs))


def divergence(source: Predictions, other: Predictions) -> float | None:
    """Return KL(source || other) in nats per token, a lower bound from the most likely tokens; None without any."""
    distances = [divergence_at(p, q) for p, q in zip(source, other, strict=False)]
    return statistics.fmean(distances) if distances else None


def divergence_at(source: dict[bytes, float], other: dict[bytes, float]) -> float:
    """Return KL(source || other) at one position, over the tokens in both lists, and one class for all others."""
    common = source.keys() & other.keys()
    pairs = [(math.exp(source[token]), math.exp(other[token])) for token in common]
    pairs.append((1 - sum(p for p, _ in pairs), 1 - sum(q for _, q in pairs)))
    return max(0.0, sum(p * math.log(p / max(q, 1e-12)) for p, q in pairs if p > 1e-12))
