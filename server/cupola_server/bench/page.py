"""The report as one HTML page with inline charts and styles. It loads no script, style sheet, font or image."""

from collections.abc import Iterable, Sequence
from html import escape

from cupola_server.bench.charts import Line, bar_chart, line_chart, range_chart, scatter_chart
from cupola_server.bench.report import (
    Row,
    Section,
    build_notes,
    build_ratio_sections,
    build_remarks,
    build_sections,
    describe_growth,
    format_cell,
    format_machine,
)
from cupola_server.bench.results import Curve, Result
from cupola_server.bench.statistics import Figure, Histogram

_LIGHT_COLORS = [
    "#0b63c4",
    "#5ba3f0",
    "#c2410c",
    "#f59e0b",
    "#a21caf",
    "#e07bd8",
    "#15803d",
    "#6b7280",
    "#0e7490",
    "#7c5c1e",
]
_DARK_COLORS = [
    "#5aa9ff",
    "#2f6fb5",
    "#ff8a4c",
    "#ffc24d",
    "#d580ff",
    "#8f4aa8",
    "#4ecb71",
    "#a3adba",
    "#3cc7dd",
    "#c9a35a",
]

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
"""Rules for phones, desktops, dark mode and print. Colors are variables that `_style_sheet` adds."""


def render_page(result: Result) -> str:
    """Return the report as an HTML document."""
    sections, ratio_sections = build_sections(result), build_ratio_sections(result)
    titles = [target.title for target in result.targets]
    title = f"Benchmark of {', '.join(model.rpartition(':')[0] or model for model in result.plan.models)}"
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(format_machine(result.machine))}.</p>",
        _list(build_remarks(result)),
        *_chart_sections(result, sections),
        *_curve_section(result.curves),
        "<h2>All figures</h2>",
        *(_table(section, titles) for section in [*sections, *ratio_sections]),
        "<h2>Targets</h2>",
        _list(build_notes(result)),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{escape(title)}</title><style>{_style_sheet()}</style>'
        f"</head><body>{''.join(parts)}</body></html>\n"
    )


def _chart_sections(result: Result, sections: Sequence[Section]) -> Iterable[str]:
    by_title = {section.title: section for section in sections}
    speed, cost = by_title.get("Speed"), by_title.get("Cost")
    if speed:
        charts = [_throughput_chart(result), *_bar_charts(result, speed, more_is_better=True)]
        yield "<h2>Speed</h2><p>Whiskers show where the value of a second run is expected.</p>" + _grid(charts)
    if latencies := _latency_charts(result):
        yield (
            "<h2>Latency</h2><p>A bar covers 90 % of all times, from p5 to p95. The line marks the median, the ring "
            "p99. Pieces of text that arrive together count as no time between tokens.</p>" + _grid(latencies)
        )
    if cost:
        yield "<h2>Cost</h2>" + _grid(_bar_charts(result, cost, more_is_better=False))
    if quality := _quality_charts(result):
        yield (
            "<h2>Speed and quality</h2><p>Targets at the bottom right are fast and predict well. Peers that run the "
            "same files make the same predictions except for rounding; their quality was not measured.</p>"
            + _grid(quality)
        )


def _throughput_chart(result: Result) -> str:
    lines = []
    for color, target in enumerate(result.targets):
        cells = [(streams, target.cell("decode", streams)) for streams in result.plan.streams]
        points = [
            (float(streams), figure) for streams, cell in cells if cell and (figure := cell.figure("total_per_s"))
        ]
        if points:
            lines.append(Line(target.title, color, points))
    if not lines or len(result.plan.streams) < 2:
        return ""
    return line_chart("Total throughput, prompts included", "requests at a time", "tokens/s", lines)


def _bar_charts(result: Result, section: Section, *, more_is_better: bool) -> list[str]:
    direction = "more is better" if more_is_better else "less is better"
    charts = []
    for row in section.rows:
        bars = [
            (target.title, color, figure)
            for color, (target, figure) in enumerate(zip(result.targets, row.figures, strict=True))
            if figure
        ]
        charts.append(bar_chart(_capitalize(row.title), f"{row.unit}, {direction}", bars))
    return charts


def _latency_charts(result: Result) -> list[str]:
    charts = []
    for which, title in (("ttft", "Time to the first token"), ("gaps", "Time between tokens")):
        for streams in sorted({min(result.plan.streams), max(result.plan.streams)}):
            cells = [target.cell("decode", streams) for target in result.targets]
            rows = [
                (target.title, color, sum(rounds, Histogram()))
                for color, (target, cell) in enumerate(zip(result.targets, cells, strict=True))
                if cell and (rounds := cell.times(which))
            ]
            if rows:
                load = "one request at a time" if streams == 1 else f"{streams} requests at a time"
                charts.append(range_chart(f"{title}, {load}", rows))
    return charts


def _quality_charts(result: Result) -> list[str]:
    speeds = [_decode_speed(target.name, result) for target in result.targets]
    measured = [
        (target.title, color, speed.median, target.quality)
        for color, (target, speed) in enumerate(zip(result.targets, speeds, strict=True))
        if target.quality and speed
    ]
    if not measured:
        return []
    x_title = "tokens/s, one request at a time"
    perplexities = [(title, color, speed, quality.perplexity) for title, color, speed, quality in measured]
    charts = [scatter_chart("Perplexity of a short text", x_title, "less is better", perplexities)]
    divergences = [
        (title, color, speed, quality.divergence)
        for title, color, speed, quality in measured
        if quality.divergence is not None
    ]
    if any(divergence for *_, divergence in divergences):
        y_title = "nats per token, less is closer"
        charts.append(scatter_chart("KL divergence from the first model", x_title, y_title, divergences))
    return charts


def _decode_speed(name: str, result: Result) -> Figure | None:
    target = result.target(name)
    cell = target.cell("decode", min(result.plan.streams)) if target else None
    return cell.figure("decode_per_s") if cell else None


def _curve_section(curves: Sequence[Curve]) -> Iterable[str]:
    if not curves:
        return
    charts = []
    for curve in curves:
        if len(curve.points) > 1:
            line = Line(curve.target, 0, [(point.x, point.figure) for point in curve.points])
            unit = curve.points[0].figure.unit
            charts.append(line_chart(_capitalize(curve.what), curve.over, unit, [line], log_y=True))
    sentences = [describe_growth(curve) for curve in curves]
    yield "<h2>Growth</h2><p>Both axes are logarithmic.</p>" + _grid(charts) + _list(sentences)


def _table(section: Section, titles: Sequence[str]) -> str:
    heads = "".join(f"<th>{escape(row.title)}<br><small>{escape(row.unit)}</small></th>" for row in section.rows)
    lines = "".join(
        f"<tr><td>{escape(title)}</td>{''.join(_table_cell(row, index) for row in section.rows)}</tr>"
        for index, title in enumerate(titles)
    )
    return (
        f'<h3>{escape(section.title)}</h3><div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>'
        f"{lines}</tbody></table></div>"
    )


def _table_cell(row: Row, index: int) -> str:
    note = f' title="{escape(row.notes[index])}"' if row.notes and row.notes[index] else ""
    return f"<td{note}>{escape(format_cell(row, index))}</td>"


def _grid(charts: Iterable[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _style_sheet() -> str:
    """Return the style sheet. Classes c0, c1, … fill with the colors of the targets, s0, s1, … draw lines."""
    light = _variables(_LIGHT_COLORS, "--paper:#fff;--ink:#16181d;--faint:#5b6472;--line:#dfe3e8")
    dark = _variables(_DARK_COLORS, "--paper:#111418;--ink:#e8eaee;--faint:#9aa4b2;--line:#2b3139")
    colors = "".join(f".c{n}{{fill:var(--c{n})}}.s{n}{{stroke:var(--c{n})}}" for n in range(len(_LIGHT_COLORS)))
    return (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"{_RULES}{colors}"
    )


def _variables(colors: list[str], others: str) -> str:
    return ";".join([*(f"--c{n}:{color}" for n, color in enumerate(colors)), others])


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
