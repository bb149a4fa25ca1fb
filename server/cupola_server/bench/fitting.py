"""How a cost grows: the power law that fits best, and where one law turns into another."""

import math
from collections.abc import Sequence
from typing import NamedTuple

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
