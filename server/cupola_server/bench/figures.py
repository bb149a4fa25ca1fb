"""Numbers with their spread: what the rounds gave, and how times are distributed."""

import math
import statistics
from collections.abc import Iterable

from msgspec import Struct, field

_STEP = math.log(1.02)


class Figure(Struct, frozen=True):
    """One quantity: a value per round.

    Attributes:
        unit: "tokens/s", "ms", "times" and so on.
        values: In the order of the rounds.
        more_is_better: Which way is good; None where neither is.
    """

    unit: str
    values: tuple[float, ...]
    more_is_better: bool | None = None

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The lowest round."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest round."""
        return max(self.values)

    @property
    def spread(self) -> float:
        """How far the farthest round is from the median, as a share of the median."""
        distance = max(self.high - self.median, self.median - self.low)
        return distance / abs(self.median) if self.median else 0.0

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{number(self.median)} {self.unit}"
        return f"{number(self.median)} {self.unit} ({number(self.low)} to {number(self.high)})"


def number(value: float) -> str:
    """Write a number with three digits that count: "0.0123", "4.56", "789", "12,345"."""
    if not value or not math.isfinite(value):
        return "0" if not value else str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


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
                return math.exp((index + 0.5) * _STEP)
        return 0.0
