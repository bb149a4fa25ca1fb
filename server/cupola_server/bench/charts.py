"""Charts as inline SVG without scripts, fonts or external files. Text keeps its size on narrow screens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from cupola_server.bench.statistics import Figure, Histogram, format_number

_WIDTH, _HEIGHT = 400, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 38
_COLORS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a line chart.

    Attributes:
        title: Name in the legend.
        color: Number of the color from 0; a target has the same one in all charts.
        points: Pairs of x and the figure at x, sorted by x.
    """

    title: str
    color: int
    points: Sequence[tuple[float, Figure]]


def bar_chart(title: str, unit: str, rows: Sequence[tuple[str, int, Figure]]) -> str:
    """Draw a bar for each row (name, color, figure), with the interval of a second run, cut at the edge."""
    largest = max(max(figure.values) for _, _, figure in rows) or 1.0
    parts = [f"<h3>{escape(title)} <small>{escape(unit)}</small></h3>"]
    for name, color, figure in rows:
        low, high, width = (78 * min(value / largest, 1) for value in (figure.low, figure.high, figure.median))
        whisker = f'<line class="spread ink" x1="{low:.2f}%" x2="{high:.2f}%" y1="9" y2="9"/>'
        parts.append(
            f'<div class="bar"><span>{escape(name)}</span><svg height="18" role="img" '
            f'aria-label="{escape(f"{name}: {figure}")}"><rect class="c{color % _COLORS}" y="2" width="{width:.2f}%" '
            f'height="14" rx="2"/>{"" if figure.low == figure.high else whisker}'
            f'<text x="{max(width, high) + 1.5:.2f}%" y="13.5">{format_number(figure.median)}</text></svg></div>'
        )
    return f'<figure class="bars">{"".join(parts)}</figure>'


def range_chart(title: str, rows: Sequence[tuple[str, int, Histogram]]) -> str:
    """Draw the distribution of each row (name, color, times): p5 to p95, median and p99 on a logarithmic scale."""
    percentiles = [[times.quantile_ms(share) for share in (0.05, 0.5, 0.95, 0.99)] for _, _, times in rows]
    low = 10 ** math.floor(math.log10(min(max(values[0], 0.1) for values in percentiles)))
    high = max(10 ** math.ceil(math.log10(max(values[3] for values in percentiles))), low * 10)
    scale = _log_scale(low, high, 4, 96)
    decades = [low * 10**step for step in range(round(math.log10(high / low)) + 1)]
    grid = "".join(f'<line class="grid" x1="{scale(ms):.1f}%" x2="{scale(ms):.1f}%" y2="20"/>' for ms in decades)
    parts = [f"<h3>{escape(title)} <small>ms</small></h3>"]
    for (name, color, _), values in zip(rows, percentiles, strict=True):
        p5, p50, p95, p99 = map(scale, values)
        _, median, text95, text99 = map(format_number, values)
        parts.append(
            f'<div class="bar"><span>{escape(name)} <b>{median} <small>p95 {text95}, p99 {text99}</small></b></span>'
            f'<svg height="20" role="img" aria-label="{escape(name)}: median {median} ms, p95 {text95} ms, '
            f'p99 {text99} ms">{grid}<rect class="c{color % _COLORS} soft" x="{p5:.2f}%" y="4" '
            f'width="{p95 - p5:.2f}%" height="12" rx="2"/><line class="s{color % _COLORS} thick" x1="{p50:.2f}%" '
            f'x2="{p50:.2f}%" y1="2" y2="18"/><circle class="s{color % _COLORS} ring" cx="{p99:.2f}%" cy="10" '
            f'r="3.5"/></svg></div>'
        )
    labels = "".join(
        f'<text class="tick" text-anchor="middle" x="{scale(ms):.1f}%" y="12">{format_number(ms)}</text>'
        for ms in decades
    )
    return f'<figure class="bars">{"".join(parts)}<div class="bar"><svg height="16">{labels}</svg></div></figure>'


def line_chart(title: str, x_title: str, y_title: str, lines: Sequence[Line], *, log_y: bool = False) -> str:
    """Draw lines over a logarithmic x axis, with the interval of each point, cut at the edge."""
    xs = sorted({x for line in lines for x, _ in line.points})
    values = [value for line in lines for _, figure in line.points for value in figure.values]
    scale_x = _log_scale(xs[0], xs[-1], _LEFT, _WIDTH - _RIGHT)
    if log_y:
        bottom, top = min(values) * 0.8, max(values) * 1.25
        scale_y = _log_scale(bottom, top, _HEIGHT - _BOTTOM, _TOP)
        ticks = log_ticks(bottom, top)
    else:
        ticks = _nice_ticks(max(values))
        scale_y = _linear_scale(ticks[-1], _HEIGHT - _BOTTOM, _TOP)

    def scale_y_within(value: float) -> float:
        return min(max(scale_y(value), _TOP), _HEIGHT - _BOTTOM)

    drawn = "".join(_draw_line(line, scale_x, scale_y_within) for line in lines)
    axes = _draw_axes(_thin_out(xs), ticks, scale_x, scale_y, x_title)
    return _wrap_plot(title, y_title, axes + drawn, [(line.title, line.color) for line in lines])


def scatter_chart(title: str, x_title: str, y_title: str, points: Sequence[tuple[str, int, float, float]]) -> str:
    """Draw a dot for each point (name, color, x, y); both axes begin at 0."""
    x_ticks, y_ticks = _nice_ticks(max(x for *_, x, _ in points)), _nice_ticks(max(y for *_, y in points) or 1.0)
    scale_x = _linear_scale(x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    scale_y = _linear_scale(y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    dots = "".join(
        f'<circle class="c{color % _COLORS}" cx="{scale_x(x):.1f}" cy="{scale_y(y):.1f}" r="5"><title>'
        f"{escape(name)}: {format_number(x)}, {format_number(y)}</title></circle>"
        for name, color, x, y in points
    )
    axes = _draw_axes(x_ticks, y_ticks, scale_x, scale_y, x_title)
    return _wrap_plot(title, y_title, axes + dots, [(name, color) for name, color, *_ in points])


def log_ticks(bottom: float, top: float) -> list[float]:
    """Return round numbers between two numbers: powers of ten, or multiples of them where those are fewer than 3."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [step * 10.0**power for power in range(-4, 9) for step in steps]
        inside = [tick for tick in ticks if bottom <= tick <= top]
        if len(inside) > 2:
            return inside
    return [bottom, top]


def _draw_line(line: Line, scale_x: Callable[[float], float], scale_y: Callable[[float], float]) -> str:
    color = line.color % _COLORS
    points = [(scale_x(x), figure) for x, figure in line.points]
    path = " ".join(f"{x:.1f},{scale_y(figure.median):.1f}" for x, figure in points)
    parts = [f'<polyline class="s{color}" points="{path}"><title>{escape(line.title)}</title></polyline>']
    for x, figure in points:
        if figure.low != figure.high:
            parts.append(
                f'<line class="s{color} spread" x1="{x:.1f}" x2="{x:.1f}" y1="{scale_y(figure.low):.1f}" '
                f'y2="{scale_y(figure.high):.1f}"/>'
            )
        parts.append(f'<circle class="c{color}" cx="{x:.1f}" cy="{scale_y(figure.median):.1f}" r="3"/>')
    return "".join(parts)


def _draw_axes(
    xs: Sequence[float],
    ys: Sequence[float],
    scale_x: Callable[[float], float],
    scale_y: Callable[[float], float],
    x_title: str,
) -> str:
    parts = []
    for y in ys:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{scale_y(y):.1f}" y2="{scale_y(y):.1f}"/>'
        )
        parts.append(
            f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{scale_y(y) + 4:.1f}">{_format_tick(y)}</text>'
        )
    foot = _HEIGHT - _BOTTOM + 16
    parts += [
        f'<text class="tick" text-anchor="middle" x="{scale_x(x):.1f}" y="{foot}">{_format_tick(x)}</text>' for x in xs
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" text-anchor="middle" x="{middle}" y="{_HEIGHT - 4}">{escape(x_title)}</text>')
    return "".join(parts)


def _wrap_plot(title: str, y_title: str, content: str, legend: Sequence[tuple[str, int]]) -> str:
    keys = "".join(
        f'<span><svg width="12" height="12"><rect class="c{color % _COLORS}" width="12" height="12" rx="2"/></svg> '
        f"{escape(name)}</span>"
        for name, color in legend
    )
    return (
        f'<figure class="plot"><h3>{escape(title)} <small>{escape(y_title)}</small></h3><svg viewBox="0 0 {_WIDTH} '
        f'{_HEIGHT}" role="img" aria-label="{escape(title)}">{content}</svg><figcaption class="legend">{keys}'
        f"</figcaption></figure>"
    )


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(max(value, low) / low) / span


def _linear_scale(high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * value / high


def _nice_ticks(largest: float) -> list[float]:
    """Return four to six round numbers from 0 to at least `largest`."""
    rough = largest / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [step * index for index in range(math.ceil(largest / step) + 1)]


def _thin_out(xs: Sequence[float]) -> list[float]:
    """Return every other number if there are more than fit on an axis."""
    return list(xs) if len(xs) <= 8 else [*xs[::2]]


def _format_tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"
