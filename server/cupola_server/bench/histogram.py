"""How times are distributed, kept small and addable."""

import math
import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct, field

CLASS_WIDTH = 1.02
_STEP = math.log(CLASS_WIDTH)
_DRAWS = 400


class Histogram(Struct, frozen=True):
    """How times are distributed, in classes 2 % wide. Two of them add up to the histogram of both.

    Attributes:
        counts: Number of times in each class; class n begins at 1.02**n milliseconds.
    """

    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, times_s: Iterable[float]) -> "Histogram":
        """Count times in seconds."""
        counts: dict[int, int] = {}
        for time_s in times_s:
            index = math.floor(math.log(max(time_s * 1000, 1e-3)) / _STEP)
            counts[index] = counts.get(index, 0) + 1
        return cls(counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        keys = self.counts.keys() | other.counts.keys()
        return Histogram({key: self.counts.get(key, 0) + other.counts.get(key, 0) for key in sorted(keys)})

    @property
    def total(self) -> int:
        """How many times were counted."""
        return sum(self.counts.values())

    def quantile_ms(self, share: float) -> float:
        """Return the time that this share of all does not exceed, in milliseconds, to within 2 %; 0 for none."""
        wanted, seen = share * self.total, 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= wanted:
                return _middle_ms(index)
        return 0.0


def quantile_error(rounds: Sequence[Histogram], share: float) -> float:
    """Return the standard error of the logarithm of a quantile over all rounds; 0 for fewer than two.

    Times of one round resemble each other, so it is rounds that are drawn again (the bootstrap, over clusters); always
    the same draws, so that a report of a file is always the same.
    """
    if len(rounds) < 2:
        return 0.0
    import numpy as np  # noqa: PLC0415

    classes = sorted({index for found in rounds for index in found.counts})
    counts = np.array([[found.counts.get(index, 0) for index in classes] for found in rounds])
    often = np.random.default_rng(1).multinomial(len(rounds), [1 / len(rounds)] * len(rounds), _DRAWS)
    seen = (often @ counts).cumsum(axis=1)
    found = np.array(classes)[(seen >= share * seen[:, -1:]).argmax(axis=1)]
    return float(statistics.stdev(found.tolist())) * _STEP * math.sqrt(len(rounds) / (len(rounds) - 1))


def _middle_ms(index: int) -> float:
    return math.exp((index + 0.5) * _STEP)
