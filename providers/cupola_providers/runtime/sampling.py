"""Sampling: choosing tokens from logits, for many turns at once.

The order of the steps is that of vLLM, and of Hugging Face transformers for the parameters it has:

1. `logit_bias` is added to the raw logits,
2. `repetition_penalty` (over prompt and answer; Keskar et al. 2019), then `frequency_penalty` and `presence_penalty`
   (over the answer); banned tokens and tokens masked by a guide are set to minus infinity,
3. temperature 0 selects the token with the largest logit and stops; otherwise the logits are divided by it,
4. `min_p`, then `top_k`, then `top_p` (Holtzman et al. 2019), each over the tokens that the previous one kept,
5. one uniform number of the turn's own generator selects one of the rest.

Ties are ordered by token id, so greedy sampling, `top_k=1` and the boundary of `top_p` are deterministic.

Each row is computed separately. Rows are long (49,152 to 200,000 tokens), so numpy gains nothing from batching, and the
result of a row cannot depend on the other rows of its batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupola.errors import InvalidParameterError
from cupola.provider import Sampling

NO_TOKEN = -1
"""Result of `sample` for a row with NaN or infinite logits, or without any allowed token."""

GREEDY_BELOW = 1e-5
"""Temperatures below this count as 0, because the division would overflow float32 (as in vLLM)."""

_BLOCK = 256
_LOWEST = float(np.finfo(np.float32).min)

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]


class TurnSampler:
    """The sampling parameters of one turn, and the tokens that it has sampled.

    Args:
        sampling: The parameters; only `seed` may be None.
        prompt: Tokens of the prompt, for the repetition penalty.
        vocab_size: Length of a row of logits.

    Raises:
        InvalidParameterError: A field is out of range.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocab_size: int) -> None:
        _check(sampling, vocab_size)
        self.temperature = float(sampling.temperature or 0.0)
        self.top_k = sampling.top_k if sampling.top_k and sampling.top_k < vocab_size else 0
        self.top_p = float(1.0 if sampling.top_p is None else sampling.top_p)
        self.min_p = float(sampling.min_p)
        self._random = np.random.Generator(np.random.PCG64(None if sampling.seed is None else sampling.seed % 2**64))
        self._repetition = float(sampling.repetition_penalty or 1.0)
        self._presence = float(sampling.presence_penalty)
        self._frequency = float(sampling.frequency_penalty)
        self._biased = np.fromiter(sampling.logit_bias.keys(), np.int64)
        self._bias = np.fromiter(sampling.logit_bias.values(), np.float32)
        self._counts = _TokenCounts(prompt if self._repetition != 1 else (), vocab_size)
        self._penalised = self._repetition != 1 or self._presence != 0 or self._frequency != 0
        self._banned = np.empty(0, np.int64)
        self._mask: Callable[[Logits], Logits] | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether the token with the largest logit is always selected."""
        return self.temperature < GREEDY_BELOW

    @property
    def is_plain(self) -> bool:
        """Whether the logits are not adjusted."""
        return not (self._penalised or self._biased.size or self._banned.size or self._mask)

    def ban(self, tokens: Sequence[int]) -> None:
        """Ban tokens. Replaces the tokens of an earlier call."""
        self._banned = np.asarray(tokens, np.int64)

    def guide(self, mask: Callable[[Logits], Logits]) -> None:
        """Set a function that masks adjusted logits (float32 [vocab]) by setting tokens to minus infinity."""
        self._mask = mask

    def record(self, token: int) -> None:
        """Count a token of the answer. `sample` calls this for the tokens it selects."""
        if self._penalised:
            self._counts.add(token)

    def adjusted(self, row: Logits) -> Logits:
        """Return the logits (float32 [vocab]) after bias, penalties, bans and mask; `row` itself if there are none."""
        if self.is_plain:
            return row
        row = row.copy()
        row[self._biased] += self._bias
        if self._penalised:
            ids, counts = self._counts.seen()
            values = row[ids]
            if self._repetition != 1:
                values = np.where(values > 0, values / self._repetition, values * self._repetition)
            row[ids] = values - self._frequency * counts - self._presence * (counts > 0)
        row[self._banned] = -np.inf
        return self._mask(row) if self._mask else row

    def choose(self, row: Logits) -> int:
        """Sample a token from logits (float32 [vocab]) without recording it; `NO_TOKEN` if none is allowed."""
        row = self.adjusted(row)
        likeliest = int(row.argmax())  # the first NaN, if there is one
        peak = float(row[likeliest])
        if not math.isfinite(peak):
            return NO_TOKEN
        if self.is_greedy:
            return likeliest
        point = self._random.random()
        if self.top_k == 0 and self.top_p >= 1 and self.min_p <= 0:
            return _draw_from_all(row, peak, self.temperature, point)
        kept = kept_tokens(row, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)
        return int(kept[_draw(_weights(row[kept], peak, self.temperature), point)])


def sample(logits: Logits, turns: Sequence[TurnSampler]) -> Ids:
    """Sample the next token of every row, and record it in the row's turn.

    Args:
        logits: float32 [rows, vocab]; not modified.
        turns: One sampler per row.

    Returns:
        int64 [rows]; `NO_TOKEN` for rows with unusable logits, whose turns have failed.
    """
    if all(turn.is_greedy and turn.is_plain for turn in turns):
        tokens = logits.argmax(axis=-1)
        peaks = logits[np.arange(len(turns)), tokens]
        return np.where(np.isfinite(peaks), tokens, NO_TOKEN)
    tokens = np.empty(len(turns), np.int64)
    for index, turn in enumerate(turns):
        token = turn.choose(logits[index])
        if token != NO_TOKEN:
            turn.record(token)
        tokens[index] = token
    return tokens


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probabilities at one position: of the sampled token, and of the most likely ones as (token, logprob)."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def logprobs(row: Logits, token: int, top: int = 0) -> TokenLogprobs:
    """Compute log probabilities of the raw logits, before bias, penalties, temperature and truncation.

    Args:
        row: float32 [vocab].
        token: The sampled token.
        top: Number of most likely tokens to return, in order.
    """
    peak = float(row.max())
    total = peak + math.log(float(np.exp(row - np.float32(peak)).sum(dtype=np.float64)))
    best = likeliest_tokens(row, top) if top else ()
    return TokenLogprobs(float(row[token]) - total, tuple((int(one), float(row[one]) - total) for one in best))


def kept_tokens(row: Logits, *, temperature: float, top_k: int, top_p: float, min_p: float) -> Ids:
    """Return the tokens (int64 [kept]) that `min_p`, `top_k` and `top_p` keep, in any order; at least one.

    Args:
        row: float32 [vocab], penalties and bias applied, at least one finite.
        temperature: Above 0.
        top_k: 0 keeps all.
        top_p: 1 keeps all.
        min_p: 0 keeps all.
    """
    peak = float(row.max())
    floor = (
        peak + temperature * math.log(min_p) if min_p > 0 else _LOWEST
    )  # the logit of probability min_p times the largest
    if top_k:
        kept = likeliest_tokens(row, top_k)
        kept = kept[row[kept] >= floor]
    elif min_p > 0 or top_p >= 1:
        kept = np.flatnonzero(row >= floor)
    else:
        return _nucleus(row, peak, temperature, top_p)
    return kept if top_p >= 1 else kept[_nucleus(row[kept], peak, temperature, top_p)]


def likeliest_tokens(row: Logits, count: int) -> Ids:
    """Return the `count` most likely tokens in order; fewer if the others are at minus infinity.

    The count-th largest of the maxima of disjoint parts of a row is a lower bound of its count-th largest value. Only
    the few values above that bound are sorted, which is exact and fast.
    """
    if count == 1:
        return np.array([row.argmax()], np.int64)
    columns = max(512, 8 * count)
    if columns * 2 > row.size:
        border = float(np.partition(row, row.size - count)[row.size - count]) if count < row.size else _LOWEST
    else:
        maxima = row[: row.size // columns * columns].reshape(-1, columns).max(axis=0)
        border = float(np.partition(maxima, columns - count)[columns - count])
    return _in_order(row, np.flatnonzero(row >= max(border, _LOWEST)))[:count]


class _TokenCounts:
    """Number of occurrences of each token in the answer; tokens of the prompt are included with a count of 0."""

    def __init__(self, prompt: Sequence[int], vocab_size: int) -> None:
        known = np.unique(np.asarray(prompt, np.int64)) if len(prompt) else np.empty(0, np.int64)
        known = known[(known >= 0) & (known < vocab_size)]
        self._places = {int(token): place for place, token in enumerate(known)}
        self._ids = known
        self._counts = np.zeros(known.size, np.float32)

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place >= self._ids.size:
            spare = max(64, self._ids.size)
            self._ids = np.concatenate([self._ids, np.zeros(spare, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(spare, np.float32)])
        self._ids[place] = token
        self._counts[place] += 1

    def seen(self) -> tuple[Ids, NDArray[np.float32]]:
        used = len(self._places)
        return self._ids[:used], self._counts[:used]


def _check(sampling: Sampling, vocab_size: int) -> None:
    temperature, top_p, penalty = sampling.temperature or 0.0, sampling.top_p, sampling.repetition_penalty
    limits = {
        "temperature": (0 <= temperature < math.inf, "is 0 or more"),
        "top_k": ((sampling.top_k or 0) >= 0, "is 0 or more"),
        "top_p": (top_p is None or 0 < top_p <= 1, "is above 0 and at most 1"),
        "min_p": (0 <= sampling.min_p <= 1, "is between 0 and 1"),
        "repetition_penalty": (penalty is None or 0.01 <= penalty <= 100, "is between 0.01 and 100"),
        "presence_penalty": (math.isfinite(sampling.presence_penalty), "is a number"),
        "frequency_penalty": (math.isfinite(sampling.frequency_penalty), "is a number"),
        "logit_bias": (
            all(0 <= token < vocab_size and math.isfinite(bias) for token, bias in sampling.logit_bias.items()),
            f"maps token ids from 0 to {vocab_size - 1} to numbers",
        ),
    }
    for name, (is_right, rule) in limits.items():
        if not is_right:
            raise InvalidParameterError(param=name, detail=f"{name} {rule}, not {getattr(sampling, name)!r}.")


def _in_order(row: Logits, tokens: Ids) -> Ids:
    return tokens[np.argsort(-row[tokens], kind="stable")]


def _weights(logits: Logits, peak: float, temperature: float) -> NDArray[np.float64]:
    """Return unnormalized probabilities; the most likely token has weight 1."""
    return np.exp((logits.astype(np.float64) - peak) / temperature)


def _block_weights(row: Logits, peak: float, temperature: float) -> tuple[Logits, NDArray[np.float64]]:
    """Return the weights of a row in float32, and their sums over blocks of `_BLOCK` tokens."""
    weights = row - np.float32(peak)
    weights /= np.float32(temperature)
    np.exp(weights, out=weights)
    return weights, np.add.reduceat(weights, np.arange(0, row.size, _BLOCK)).astype(np.float64)


def _nucleus(logits: Logits, peak: float, temperature: float, top_p: float) -> Ids:
    """Return the positions of the smallest set that reaches `top_p` of the total weight of these logits.

    Tokens whose weights together cannot exceed 1 - `top_p` of the total are excluded first, so that few remain to be
    sorted. Of equal logits at the boundary, the first ones are kept.
    """
    total = float(_block_weights(logits, peak, temperature)[1].sum())
    light = (1 - top_p) * total / logits.size / 2  # halved because the total is rounded
    floor = max(peak + temperature * math.log(light), _LOWEST)
    heavy = np.sort(np.compress(logits >= floor, logits))[::-1]
    cumulated = np.cumsum(_weights(heavy, peak, temperature))
    count = min(int(np.searchsorted(cumulated, top_p * total, side="left")) + 1, heavy.size)
    border = heavy[count - 1]
    above = np.flatnonzero(logits > border)
    return np.concatenate([above, np.flatnonzero(logits == border)[: count - above.size]])


def _draw(weights: NDArray[np.float64], point: float) -> int:
    """Return the index at a point (0 <= point < 1) of the cumulative weights; never one with zero weight."""
    cumulated = np.cumsum(weights)
    return min(int(np.searchsorted(cumulated, point * cumulated[-1], side="right")), int(np.flatnonzero(weights)[-1]))


def _draw_from_all(row: Logits, peak: float, temperature: float, point: float) -> int:
    """Draw from a whole row in two stages, since the cumulative sum of 49,152 numbers would dominate the time."""
    weights, blocks = _block_weights(row, peak, temperature)
    target = point * float(blocks.sum())
    block = _draw(blocks, point)
    start = block * _BLOCK
    inside = weights[start : start + _BLOCK].astype(np.float64)
    share = (target - float(blocks[:block].sum())) / float(blocks[block])
    return start + _draw(inside, min(max(share, 0.0), 1.0))
