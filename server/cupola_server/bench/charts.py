"""Charts as inline SVG: no script, no font, no picture from elsewhere; text keeps its size on a narrow screen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from cupola_server.bench.statistics import Figure, Histogram, number

_WIDTH, _HEIGHT = 400, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 38
_COLOURS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart; `colour` counts from 0, the same for one target in all charts."""

    title: str
    colour: int
    points: Sequence[tuple[float, Figure]]


def bars(title: str, unit: str, rows: Sequence[tuple[str, int, Figure]]) -> str:
    """Draw a bar for each row, with a whisker where a second run is expected, as far as there is room."""
    most = max(max(figure.values) for _, _, figure in rows) or 1.0
    parts = [f"<h3>{escape(title)} <small>{escape(unit)}</small></h3>"]
    for name, colour, figure in rows:
        low, high, width = (78 * min(value / most, 1) for value in (figure.low, figure.high, figure.median))
        whisker = "" if figure.low == figure.high else _whisker(low, high)
        parts.append(
            f'<div class="bar"><span>{escape(name)}</span><svg height="18" role="img" '
            f'aria-label="{escape(f"{name}: {figure}")}"><rect class="c{colour % _COLOURS}" y="2" width="{width:.2f}%" '
            f'height="14" rx="2"/>{whisker}<text x="{max(width, high) + 1.5:.2f}%" y="13.5">{number(figure.median)}'
            f"</text></svg></div>"
        )
    return f'<figure class="bars">{"".join(parts)}</figure>'


def ranges(title: str, rows: Sequence[tuple[str, int, Histogram]]) -> str:
    """Draw how times are distributed: a bar from p5 to p95, a line at the median, a ring at p99, logarithmic."""
    spans = [[found.quantile_ms(share) for share in (0.05, 0.5, 0.95, 0.99)] for _, _, found in rows]
    low = 10 ** math.floor(math.log10(min(max(span[0], 0.1) for span in spans)))
    high = max(10 ** math.ceil(math.log10(max(span[3] for span in spans))), low * 10)

    def at(value: float) -> float:
        return 4 + 92 * math.log(max(value, low) / low) / math.log(high / low)

    decades = [low * 10**step for step in range(round(math.log10(high / low)) + 1)]
    parts = [f"<h3>{escape(title)} <small>ms</small></h3>"]
    for (name, colour, _), (p5, p50, p95, p99) in zip(rows, spans, strict=True):
        told = f"{number(p50)} <small>p95 {number(p95)}, p99 {number(p99)}</small>"
        grid = "".join(f'<line class="grid" x1="{at(ms):.1f}%" x2="{at(ms):.1f}%" y2="20"/>' for ms in decades)
        parts.append(
            f'<div class="bar"><span>{escape(name)} <b>{told}</b></span><svg height="20" role="img" aria-label='
            f'"{escape(name)}: median {number(p50)} ms, p95 {number(p95)} ms, p99 {number(p99)} ms">{grid}'
            f'<rect class="c{colour % _COLOURS} soft" x="{at(p5):.2f}%" y="4" width="{at(p95) - at(p5):.2f}%" '
            f'height="12" rx="2"/><line class="s{colour % _COLOURS} thick" x1="{at(p50):.2f}%" x2="{at(p50):.2f}%" '
            f'y1="2" y2="18"/><circle class="s{colour % _COLOURS} ring" cx="{at(p99):.2f}%" cy="10" r="3.5"/>'
            "</svg></div>"
        )
    labels = "".join(
        f'<text class="tick" text-anchor="middle" x="{at(ms):.1f}%" y="12">{number(ms)}</text>' for ms in decades
    )
    return f'<figure class="bars">{"".join(parts)}<div class="bar"><svg height="16">{labels}</svg></div></figure>'


def lines(title: str, x_title: str, y_title: str, found: Sequence[Line], *, log_y: bool = False) -> str:
    """Draw lines over a logarithmic x axis, with the spread of each point as far as there is room."""
    xs = sorted({x for line in found for x, _ in line.points})
    values = [value for line in found for _, figure in line.points for value in figure.values]
    along = _log_scale(xs[0], xs[-1], _LEFT, _WIDTH - _RIGHT)
    if log_y:
        bottom, top = min(values) * 0.8, max(values) * 1.25
        up = _log_scale(bottom, top, _HEIGHT - _BOTTOM, _TOP)
        ticks = log_ticks(bottom, top)
    else:
        ticks = _nice_ticks(max(values))
        up = _linear_scale(ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    drawn = "".join(_line(line, along, lambda value: min(max(up(value), _TOP), _HEIGHT - _BOTTOM)) for line in found)
    axes = _axes(_thinned(xs), ticks, along, up, x_title)
    return _figure(title, y_title, axes + drawn, [(line.title, line.colour) for line in found])


def scatter(title: str, x_title: str, y_title: str, points: Sequence[tuple[str, int, float, float]]) -> str:
    """Draw a labelled dot for each point (title, colour, x, y); both axes begin at 0."""
    x_ticks, y_ticks = _nice_ticks(max(x for *_, x, _ in points)), _nice_ticks(max(y for *_, y in points) or 1.0)
    along = _linear_scale(x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    up = _linear_scale(y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    dots = "".join(
        f'<circle class="c{colour % _COLOURS}" cx="{along(x):.1f}" cy="{up(y):.1f}" r="5"><title>'
        f"{escape(name)}: {number(x)}, {number(y)}</title></circle>"
        for name, colour, x, y in points
    )
    axes = _axes(x_ticks, y_ticks, along, up, x_title)
    return _figure(title, y_title, axes + dots, [(name, colour) for name, colour, *_ in points])


def _line(line: Line, along: Callable[[float], float], up: Callable[[float], float]) -> str:
    colour = line.colour % _COLOURS
    points = [(along(x), figure) for x, figure in line.points]
    path = " ".join(f"{x:.1f},{up(figure.median):.1f}" for x, figure in points)
    parts = [f'<polyline class="s{colour}" points="{path}"><title>{escape(line.title)}</title></polyline>']
    for x, figure in points:
        if figure.low != figure.high:
            parts.append(
                f'<line class="s{colour} spread" x1="{x:.1f}" x2="{x:.1f}" y1="{up(figure.low):.1f}" '
                f'y2="{up(figure.high):.1f}"/>'
            )
        parts.append(f'<circle class="c{colour}" cx="{x:.1f}" cy="{up(figure.median):.1f}" r="3"/>')
    return "".join(parts)


def _axes(
    xs: Sequence[float],
    ys: Sequence[float],
    along: Callable[[float], float],
    up: Callable[[float], float],
    x_title: str,
) -> str:
    parts = []
    for y in ys:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{up(y) + 4:.1f}">{_tick(y)}</text>')
    foot = _HEIGHT - _BOTTOM + 16
    parts += [f'<text class="tick" text-anchor="middle" x="{along(x):.1f}" y="{foot}">{_tick(x)}</text>' for x in xs]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" text-anchor="middle" x="{middle}" y="{_HEIGHT - 4}">{escape(x_title)}</text>')
    return "".join(parts)


def _figure(title: str, y_title: str, drawn: str, legend: Sequence[tuple[str, int]]) -> str:
    keys = "".join(
        f'<span><svg width="12" height="12"><rect class="c{colour % _COLOURS}" width="12" height="12" rx="2"/></svg> '
        f"{escape(name)}</span>"
        for name, colour in legend
    )
    return (
        f'<figure class="plot"><h3>{escape(title)} <small>{escape(y_title)}</small></h3><svg viewBox="0 0 {_WIDTH} '
        f'{_HEIGHT}" role="img" aria-label="{escape(title)}">{drawn}</svg><figcaption class="legend">{keys}'
        f"</figcaption></figure>"
    )


def _whisker(low: float, high: float) -> str:
    return f'<line class="spread ink" x1="{low:.2f}%" x2="{high:.2f}%" y1="9" y2="9"/>'


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(max(value, low) / low) / span


def _linear_scale(high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * value / high


def _nice_ticks(most: float) -> list[float]:
    """Return four to six round numbers from 0 to at least `most`."""
    rough = most / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [step * index for index in range(math.ceil(most / step) + 1)]


def log_ticks(bottom: float, top: float) -> list[float]:
    """Return the powers of ten between two numbers; where they are few, what is between them as well."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [step * 10.0**power for power in range(-4, 9) for step in steps]
        found = [tick for tick in ticks if bottom <= tick <= top]
        if len(found) > 2:
            return found
    return [bottom, top]


def _thinned(xs: Sequence[float]) -> list[float]:
    """Leave so few numbers on an axis that they do not touch."""
    return list(xs) if len(xs) <= 8 else [*xs[::2]]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"
