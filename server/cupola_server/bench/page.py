"""The result as one HTML page that needs nothing else: no script, no style sheet, no font from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

from cupola_server.bench.charts import Line, bars, lines, ranges, scatter
from cupola_server.bench.report import (
    Row,
    Section,
    cell_text,
    growth_text,
    notes,
    ratios_of,
    remarks,
    sections_of,
    where,
)
from cupola_server.bench.results import Curve, Result
from cupola_server.bench.statistics import Figure, Histogram


def page(result: Result) -> str:
    """Return the page."""
    sections = sections_of(result)
    title = f"Benchmark of {', '.join(model.rpartition(':')[0] or model for model in result.plan.models)}"
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(where(result.machine))}.</p>",
        _list(remarks(result)),
        *_charts(result, sections),
        *_curves(result.curves),
        "<h2>All figures</h2>",
        *(_table(section, [target.title for target in result.targets]) for section in [*sections, *ratios_of(result)]),
        "<h2>What ran</h2>",
        _list(notes(result)),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{escape(title)}</title><style>{style()}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _charts(result: Result, sections: Sequence[Section]) -> Iterable[str]:
    by_title = {section.title: section for section in sections}
    speed, cost = by_title.get("Speed"), by_title.get("Cost")
    if speed:
        told = "<p>Whiskers show where a second run is expected.</p>"
        yield f"<h2>Speed</h2>{told}" + _grid([_over_streams(result), *_bars(result, speed, more_is_better=True)])
    if latencies := _distributions(result):
        yield (
            "<h2>Latency</h2><p>From the bar's left end to its right end lie nine tenths of all times (p5 to p95); the "
            "line is the median, the ring p99. Pieces of text that arrive together have no time between them.</p>"
            + _grid(latencies)
        )
    if cost:
        yield "<h2>Cost</h2>" + _grid(_bars(result, cost, more_is_better=False))
    if quality := _quality(result):
        yield (
            "<h2>Speed against quality</h2><p>Right is faster, low is better. Peers that run the same files "
            "predict the same, but for rounding; what they answer was not judged.</p>" + _grid(quality)
        )


def _over_streams(result: Result) -> str:
    found = []
    for colour, target in enumerate(result.targets):
        cells = [(streams, target.cell("decode", streams)) for streams in result.plan.streams]
        points = [
            (float(streams), figure) for streams, cell in cells if cell and (figure := cell.figure("total_per_s"))
        ]
        if points:
            found.append(Line(target.title, colour, points))
    if not found or len(result.plan.streams) < 2:
        return ""
    return lines("All answers together, waiting included", "answers at a time", "tokens/s", found)


def _bars(result: Result, section: Section, *, more_is_better: bool) -> list[str]:
    found = []
    for row in section.rows:
        rows = [
            (target.title, colour, figure)
            for colour, (target, figure) in enumerate(zip(result.targets, row.figures, strict=True))
            if figure
        ]
        better = "more is better" if more_is_better else "less is better"
        found.append(bars(_capital(row.title), f"{row.unit}, {better}", rows))
    return found


def _distributions(result: Result) -> list[str]:
    found = []
    for which, title in (("ttft", "To the first token"), ("gaps", "Between tokens")):
        for streams in sorted({min(result.plan.streams), max(result.plan.streams)}):
            cells = [target.cell("decode", streams) for target in result.targets]
            rows = [
                (target.title, colour, sum(rounds, Histogram()))
                for colour, (target, cell) in enumerate(zip(result.targets, cells, strict=True))
                if cell and (rounds := cell.times(which))
            ]
            if rows:
                at = "one answer at a time" if streams == 1 else f"{streams} at a time"
                found.append(ranges(f"{title}, {at}", rows))
    return found


def _quality(result: Result) -> list[str]:
    speeds = [_speed_alone(target.name, result) for target in result.targets]
    read = [
        (target.title, colour, speed.median, target.quality)
        for colour, (target, speed) in enumerate(zip(result.targets, speeds, strict=True))
        if target.quality and speed
    ]
    if not read:
        return []
    perplexities = [(title, colour, speed, quality.perplexity) for title, colour, speed, quality in read]
    found = [scatter("Perplexity of a short text", "tokens/s, one answer", "less is better", perplexities)]
    distances = [(title, colour, speed, q.divergence) for title, colour, speed, q in read if q.divergence is not None]
    if any(distance for *_, distance in distances):
        told = "nats a token, less is nearer"
        found.append(scatter("KL divergence from the first model", "tokens/s, one answer", told, distances))
    return found


def _speed_alone(name: str, result: Result) -> Figure | None:
    target = result.target(name)
    cell = target.cell("decode", min(result.plan.streams)) if target else None
    return cell.figure("decode_per_s") if cell else None


def _curves(curves: Sequence[Curve]) -> Iterable[str]:
    if curves:
        drawn = [
            lines(
                _capital(curve.what), curve.over, curve.points[0].figure.unit,
                [Line(curve.target, 0, [(point.x, point.figure) for point in curve.points])], log_y=True,
            )
            for curve in curves if len(curve.points) > 1
        ]  # fmt: skip
        yield (
            "<h2>How it grows</h2><p>Both axes are logarithmic.</p>"
            + _grid(drawn)
            + _list([growth_text(curve) for curve in curves])
        )


def _table(section: Section, titles: Sequence[str]) -> str:
    heads = "".join(f"<th>{escape(row.title)}<br><small>{escape(row.unit)}</small></th>" for row in section.rows)
    lines = "".join(
        f"<tr><td>{escape(title)}</td>{''.join(_cell(row, index) for row in section.rows)}</tr>"
        for index, title in enumerate(titles)
    )
    return (
        f'<h3>{escape(section.title)}</h3><div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>'
        f"{lines}</tbody></table></div>"
    )


def _cell(row: Row, index: int) -> str:
    note = f' title="{escape(row.notes[index])}"' if row.notes and row.notes[index] else ""
    return f"<td{note}>{escape(cell_text(row, index))}</td>"


def _grid(figures: Iterable[str]) -> str:
    return f'<div class="charts">{"".join(figures)}</div>'


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_LIGHT = ["#0b63c4", "#5ba3f0", "#c2410c", "#f59e0b", "#a21caf", "#e07bd8", "#15803d", "#6b7280", "#0e7490", "#7c5c1e"]
_DARK = ["#5aa9ff", "#2f6fb5", "#ff8a4c", "#ffc24d", "#d580ff", "#8f4aa8", "#4ecb71", "#a3adba", "#3cc7dd", "#c9a35a"]

_RULES = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;background:var(--paper);
color:var(--ink)}
h1{font-size:1.5rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:.95rem;margin:0 0 .5rem}
small{font-weight:400;color:var(--faint);font-size:.85em}
p,li{max-width:46rem}
ul{padding-left:1.2rem}
.charts{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr))}
figure{margin:0;padding:.9rem;border:1px solid var(--line);border-radius:8px;break-inside:avoid;min-width:0}
.bar{margin:.15rem 0 .4rem}
.bar span{display:block;font-size:.82rem;line-height:1.3}
.bar b{font-weight:600;font-variant-numeric:tabular-nums}
.bar svg,.plot svg{display:block;width:100%;overflow:visible}
svg text{font:12px system-ui,sans-serif;fill:var(--ink);font-variant-numeric:tabular-nums}
svg text.tick{fill:var(--faint);font-size:11.5px}
.grid{stroke:var(--line);stroke-width:1}
polyline{fill:none;stroke-width:2;stroke-linejoin:round}
.spread{stroke-width:1.5;opacity:.6}
.ink{stroke:var(--ink)}
.soft{opacity:.35}
.thick{stroke-width:3}
.ring{fill:none;stroke-width:2}
.legend{display:flex;flex-wrap:wrap;gap:.15rem .9rem;font-size:.8rem;margin-top:.5rem}
.legend span{overflow-wrap:anywhere}
.legend svg{display:inline-block;width:12px;height:12px;vertical-align:-1px}
.wide{overflow-x:auto;margin:0 0 1rem}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:bottom}
th{font-weight:600}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);min-width:9rem}
td{white-space:nowrap}
td:first-child{white-space:normal}
@media print{body{max-width:none;padding:0;font-size:10pt}.charts{grid-template-columns:1fr 1fr}
.wide{overflow:visible}table{font-size:7.5pt}th,td{padding:.15rem .3rem}td,th{white-space:normal}
th:first-child,td:first-child{position:static;min-width:0}h2{break-after:avoid}}
"""


def style() -> str:
    """Return the style sheet. Classes c0, c1, … fill with the colours of the targets, s0, s1, … draw lines."""
    light = _variables(_LIGHT, "--paper:#fff;--ink:#16181d;--faint:#5b6472;--line:#dfe3e8")
    dark = _variables(_DARK, "--paper:#111418;--ink:#e8eaee;--faint:#9aa4b2;--line:#2b3139")
    colours = "".join(f".c{n}{{fill:var(--c{n})}}.s{n}{{stroke:var(--c{n})}}" for n in range(len(_LIGHT)))
    return (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"{_RULES}{colours}"
    )


def _variables(colours: list[str], others: str) -> str:
    return ";".join([*(f"--c{n}:{colour}" for n, colour in enumerate(colours)), others])
