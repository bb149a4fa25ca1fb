"""Numbers with their spread: what the rounds gave, and where a second run is expected."""

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct

from cupola_server.bench.histogram import CLASS_WIDTH, Histogram, quantile_error

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
"""Student's t for 95 % on both sides, by degrees of freedom from 1."""
_Z95 = 1.960


class Figure(Struct, frozen=True):
    """One quantity: a value per round, and the value to quote.

    Attributes:
        unit: "tokens/s", "ms", "times" and so on.
        values: In the order of the rounds.
        more_is_better: Which way is good; None where neither is.
        pooled: The value to quote where it is not the median: a percentile over the times of all rounds.
        error: Standard error of the pooled value's logarithm.
    """

    unit: str
    values: tuple[float, ...]
    more_is_better: bool | None = None
    pooled: float | None = None
    error: float = 0.0

    @classmethod
    def quantile(cls, unit: str, rounds: Sequence[Histogram], share: float) -> "Figure":
        """Make the figure of a percentile over the times of all rounds, of which less is better."""
        whole = sum(rounds, Histogram())
        values = tuple(found.quantile_ms(share) for found in rounds)
        return cls(unit, values, False, whole.quantile_ms(share), quantile_error(rounds, share))

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.values) if self.pooled is None else self.pooled

    @property
    def low(self) -> float:
        """The lowest value to expect of a second run."""
        return self.median / self._factor

    @property
    def high(self) -> float:
        """The highest value to expect of a second run."""
        return self.median * self._factor

    @property
    def spread(self) -> float:
        """How far from this one the value of a second run, of as many rounds, may lie; as a share of it.

        Nineteen of twenty lie within. Two values differ by the standard error times the root of 2, and Student's t
        allows for the few rounds that the error is known from.
        """
        return self._factor - 1

    @property
    def _factor(self) -> float:
        count = len(self.values)
        if count < 2 or min(self.values) <= 0:
            return 1.0
        if self.pooled is None:
            # the median of n values has a standard error 1.2533 times that of their mean
            error = math.sqrt(math.pi / 2 / count) * statistics.stdev(map(math.log, self.values))
            return math.exp(_t95(count - 1) * math.sqrt(2) * error)
        return max(math.exp(_t95(count - 1) * math.sqrt(2) * self.error), CLASS_WIDTH)

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


def _t95(freedom: int) -> float:
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    return _Z95 + (_Z95**3 + _Z95) / (4 * freedom)  # Cornish and Fisher; off by less than 0.01 from here on
