"""Statistics of a benchmark: medians and percentiles with the interval of a second run, and the fit of growth."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct, field

CLASS_WIDTH = 1.02
_LOG_CLASS_WIDTH = math.log(CLASS_WIDTH)
_BOOTSTRAP_DRAWS = 400

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
"""Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1."""
_Z95 = 1.960
"""The two-sided 95 % quantile of the normal distribution."""

_MAX_ERROR_RATIO, _MIN_SLOPE_CHANGE = 0.25, 0.25
"""A bend must leave less than this share of one line's squared error, and change the slope by at least this much."""
_MIN_POINTS_FOR_BEND = 5


class Histogram(Struct, frozen=True):
    """A distribution of times in logarithmic classes 2 % wide. The sum of two is the histogram of all their times.

    Attributes:
        counts: Number of times by class; class n holds times from 1.02**n to 1.02**(n + 1) milliseconds.
    """

    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def from_times(cls, times_s: Iterable[float]) -> "Histogram":
        """Count times in seconds. Times below 1 µs count as 1 µs."""
        counts: dict[int, int] = {}
        for time_s in times_s:
            index = math.floor(math.log(max(time_s * 1000, 1e-3)) / _LOG_CLASS_WIDTH)
            counts[index] = counts.get(index, 0) + 1
        return cls(counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        keys = self.counts.keys() | other.counts.keys()
        return Histogram({key: self.counts.get(key, 0) + other.counts.get(key, 0) for key in sorted(keys)})

    @property
    def total(self) -> int:
        """The number of times."""
        return sum(self.counts.values())

    def quantile_ms(self, share: float) -> float:
        """Return the time in milliseconds that this share (0 to 1) of all times does not exceed, to within 2 %.

        An empty histogram returns 0.
        """
        rank, seen = share * self.total, 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return math.exp((index + 0.5) * _LOG_CLASS_WIDTH)
        return 0.0


class Figure(Struct, frozen=True):
    """One measured quantity: a value for each round, the value to quote, and the interval of a second run.

    The interval comes from Student's t on the logarithms of the values. Times and speeds are products of many factors,
    so their logarithms are closer to normal than they are; a second run differs from this one by both standard errors.

    Attributes:
        unit: "tokens/s", "ms", "times" and so on.
        values: One value for each round, in the order of the rounds.
        more_is_better: Whether a larger value is better; None where neither is.
        pooled: The value to quote where it is not the median: a percentile over the times of all rounds.
        error: Standard error of the logarithm of `pooled`.
    """

    unit: str
    values: tuple[float, ...]
    more_is_better: bool | None = None
    pooled: float | None = None
    error: float = 0.0

    @classmethod
    def from_histograms(cls, unit: str, rounds: Sequence[Histogram], share: float) -> "Figure":
        """Return a percentile over the times of all rounds in milliseconds; less is better.

        Args:
            unit: Unit to show.
            rounds: The times of each round.
            share: Which percentile, 0 to 1.
        """
        pooled = sum(rounds, Histogram())
        values = tuple(histogram.quantile_ms(share) for histogram in rounds)
        return cls(unit, values, False, pooled.quantile_ms(share), quantile_error(rounds, share))

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.values) if self.pooled is None else self.pooled

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval of a second run."""
        return self.median / self._factor

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval of a second run."""
        return self.median * self._factor

    @property
    def spread(self) -> float:
        """Half the width of the interval as a share of the value: 0.05 for ±5 %.

        19 of 20 second runs with as many rounds give a value within it. The difference of two runs has the square root
        of 2 times the standard error of one, and Student's t allows for an error estimated from few rounds.
        """
        return self._factor - 1

    @property
    def _factor(self) -> float:
        count = len(self.values)
        if count < 2 or min(self.values) <= 0:
            return 1.0
        if self.pooled is None:
            # For normal values the median's standard error is sqrt(pi / 2) = 1.2533 times that of the mean.
            error = math.sqrt(math.pi / 2 / count) * statistics.stdev(map(math.log, self.values))
            return math.exp(_student_t95(count - 1) * math.sqrt(2) * error)
        return max(math.exp(_student_t95(count - 1) * math.sqrt(2) * self.error), CLASS_WIDTH)

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{format_number(self.median)} {self.unit}"
        return f"{format_number(self.median)} {self.unit} ({format_number(self.low)} to {format_number(self.high)})"


class Growth(NamedTuple):
    """A power law: y grows as x to the power of `exponent`, and beyond `bends_at` to that of `exponent_after`."""

    exponent: float
    bends_at: float | None = None
    exponent_after: float | None = None


def quantile_error(rounds: Sequence[Histogram], share: float) -> float:
    """Return the standard error of the logarithm of a quantile over the times of all rounds; 0 for fewer than two.

    Times within a round are correlated, so whole rounds are resampled: the bootstrap over clusters (Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). The seed is fixed, so that reports of one
    file are always equal.
    """
    if len(rounds) < 2:
        return 0.0
    import numpy as np  # noqa: PLC0415

    classes = sorted({index for histogram in rounds for index in histogram.counts})
    # shape (rounds, classes)
    counts = np.array([[histogram.counts.get(index, 0) for index in classes] for histogram in rounds])
    # shape (draws, rounds)
    weights = np.random.default_rng(1).multinomial(len(rounds), [1 / len(rounds)] * len(rounds), _BOOTSTRAP_DRAWS)
    seen = (weights @ counts).cumsum(axis=1)  # shape (draws, classes)
    quantiles = np.array(classes)[(seen >= share * seen[:, -1:]).argmax(axis=1)]
    unbiased = math.sqrt(len(rounds) / (len(rounds) - 1))
    return float(statistics.stdev(quantiles.tolist())) * _LOG_CLASS_WIDTH * unbiased


def fit_power_law(points: Sequence[tuple[float, float]]) -> Growth:
    """Fit a power law, with one bend if that fits much better.

    It is the least-squares line on logarithmic scales; with a bend it is two lines that meet at one of the inner
    points.

    Args:
        points: Pairs (x, y) of positive numbers, sorted by x.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points]
    if len(logs) < 2:
        return Growth(0.0)
    slope, error = _fit_line(logs)
    if len(logs) < _MIN_POINTS_FOR_BEND:
        return Growth(slope)
    bends = [(*_fit_bent_line(logs, index), index) for index in range(1, len(logs) - 1)]
    least_error, before, after, index = min(bends)
    if least_error < _MAX_ERROR_RATIO * error and abs(after - before) > _MIN_SLOPE_CHANGE:
        return Growth(before, points[index][0], after)
    return Growth(slope)


def format_number(value: float) -> str:
    """Format a number with three significant digits: "0.0123", "4.56", "789", "12,345"."""
    if not value or not math.isfinite(value):
        return "0" if not value else str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _student_t95(freedom: int) -> float:
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    return _Z95 + (_Z95**3 + _Z95) / (4 * freedom)  # Cornish-Fisher expansion; off by less than 0.01 from here on


def _fit_line(logs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and squared error of the least-squares line."""
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return slope, sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in logs)


def _fit_bent_line(logs: Sequence[tuple[float, float]], index: int) -> tuple[float, float, float]:
    """Return squared error and both slopes of the best two lines that meet at the x of one point.

    With u = min(x - bend, 0) and v = max(x - bend, 0) it is the least-squares fit of y = a + b·u + c·v.
    """
    bend = logs[index][0]
    rows = [(1.0, min(x - bend, 0.0), max(x - bend, 0.0)) for x, _ in logs]
    ys = [y for _, y in logs]
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(3)] for i in range(3)]
    vector = [sum(row[i] * y for row, y in zip(rows, ys, strict=True)) for i in range(3)]
    a, b, c = _solve(matrix, vector)
    error = sum((y - a - b * u - c * v) ** 2 for (_, u, v), y in zip(rows, ys, strict=True))
    return error, b, c


def _solve(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Solve three linear equations by Gauss-Jordan elimination with partial pivoting."""
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
