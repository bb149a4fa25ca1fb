"""Numbers with their spread: what the rounds gave, and where a second run is expected."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct, field

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
"""Student's t for 95 % on both sides, by degrees of freedom from 1."""
_Z95 = 1.960


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


CLASS_WIDTH = 1.02
_STEP = math.log(CLASS_WIDTH)
_DRAWS = 400


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


_BETTER, _DIFFERENT = 0.25, 0.25
"""Two lines must leave less than this share of one line's error, and differ by at least so much in slope."""
_LEAST_POINTS = 5


class Growth(NamedTuple):
    """y grows as x to the power of `exponent`; beyond `bends_at` as x to the power of `exponent_after`."""

    exponent: float
    bends_at: float | None = None
    exponent_after: float | None = None


def fit(points: Sequence[tuple[float, float]]) -> Growth:
    """Fit a power law through points with positive coordinates, sorted by x; one bend if that is much better.

    A law with a bend is two lines on logarithmic scales that meet at one of the inner points.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points]
    if len(logs) < 2:
        return Growth(0.0)
    slope, error = _line(logs)
    if len(logs) < _LEAST_POINTS:
        return Growth(slope)
    bends = [(*_bent(logs, at), at) for at in range(1, len(logs) - 1)]
    best_error, before, after, at = min(bends)
    if best_error < _BETTER * error and abs(after - before) > _DIFFERENT:
        return Growth(before, points[at][0], after)
    return Growth(slope)


def _line(logs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and squared error of the best line."""
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return slope, sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in logs)


def _bent(logs: Sequence[tuple[float, float]], at: int) -> tuple[float, float, float]:
    """Return squared error and slopes of the best two lines that meet at one x.

    With u = min(x - bend, 0) and v = max(x - bend, 0) it is the least-squares fit of y = a + b·u + c·v.
    """
    bend = logs[at][0]
    rows = [(1.0, min(x - bend, 0.0), max(x - bend, 0.0)) for x, _ in logs]
    ys = [y for _, y in logs]
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(3)] for i in range(3)]
    vector = [sum(row[i] * y for row, y in zip(rows, ys, strict=True)) for i in range(3)]
    a, b, c = _solve(matrix, vector)
    error = sum((y - a - b * u - c * v) ** 2 for (_, u, v), y in zip(rows, ys, strict=True))
    return error, b, c


def _solve(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Solve three equations by elimination with pivots."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for column in range(3):
        pivot = max(range(column, 3), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for row in range(3):
            if row != column:
                factor = rows[row][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [row[3] for row in rows]
