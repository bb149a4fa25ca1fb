"""The result as a rich table in a terminal, and as Markdown."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from cupola_server.bench.figures import Figure, number
from cupola_server.bench.results import Curve, Result
from cupola_server.bench.wording import Row, ratios_of, remarks, sections_of, where

_IN_A_PIPE = 1000


def show(result: Result) -> None:
    """Print the result for people: a table for each section, a line for each target."""
    console = wide_console()
    titles = [target.title for target in result.targets]
    for section in [*sections_of(result), *ratios_of(result)]:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=section.title, title_justify="left")
        table.add_column("")
        for row in section.rows:
            table.add_column(f"{row.title}\n{row.unit}".rstrip(), justify="right", overflow="fold")
        for index, title in enumerate(titles):
            table.add_row(title, *(cell_text(row, index) for row in section.rows))
        console.print(table)
    for line in [*remarks(result), *notes(result), *map(growth_text, result.curves)]:
        console.print(line, soft_wrap=True)


def wide_console() -> Console:
    """Open standard output for tables: as wide as the terminal, or in a pipe as wide as they need to be."""
    width = None if sys.stdout.isatty() else _IN_A_PIPE
    return Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)


def markdown(result: Result) -> str:
    """Return the result as Markdown."""
    lines = [f"{where(result.machine)}.", ""]
    for section in [*sections_of(result), *ratios_of(result)]:
        heads = [f"{row.title}{f', {row.unit}' if row.unit else ''}" for row in section.rows]
        lines += [f"**{section.title}**", "", f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
        for index, target in enumerate(result.targets):
            cells = " | ".join(cell_text(row, index) for row in section.rows)
            lines.append(f"| {target.title} | {cells} |")
        lines.append("")
    lines += [f"- {line}" for line in [*remarks(result), *notes(result)]]
    lines += [f"- {growth_text(curve)}" for curve in result.curves]
    return "\n".join(lines) + "\n"


def notes(result: Result) -> list[str]:
    """Return what must be known of single targets, and what was skipped."""
    found = []
    for target in result.targets:
        versions = ", ".join(f"{name} {version}" for name, version in target.versions.items())
        settings = ", ".join(f"{name} {value}" for name, value in target.settings.items())
        told = "; ".join(text for text in (versions, settings, target.note) if text)
        found.append(f"{target.title}: {told or target.model}.")
        found += [f"{target.title}: {text}." for text in _early(target.name, result)]
    return [*found, *(f"Not measured: {one.name}. {one.reason}" for one in result.skipped)]


def growth_text(curve: Curve) -> str:
    """Say how something grows: "memory grows as resident models to the power of 0.98"."""
    first, last = curve.points[0], curve.points[-1]
    over = curve.over.removesuffix("s") if first.x == 1 else curve.over
    text = (
        f"{curve.what} ({curve.target}): {_short(first.figure)} at {first.x:,.0f} {over}, "
        f"{_short(last.figure)} at {last.x:,.0f}; it grows as their number to the power of {curve.exponent:.2f}"
    )
    if curve.bends_at is not None and curve.exponent_after is not None:
        text += f" up to {curve.bends_at:,.0f}, then {curve.exponent_after:.2f}"
    return text + (f" ({curve.problem})" if curve.problem else "") + "."


def cell_text(row: Row, index: int) -> str:
    """Return a figure with its spread, "105 ±4%"; ~ marks what others disturbed."""
    figure = row.figures[index]
    if figure is None:
        return "-"
    mark = "~" if row.noisy and row.noisy[index] else ""
    return f"{mark}{number(figure.median)}{_spread_text(figure)}"


def _spread_text(figure: Figure) -> str:
    if len(figure.values) < 2:
        return ""
    return f" ±{100 * figure.spread:.0f}%" if figure.spread <= 1 else " ±>100%"


def _short(figure: Figure) -> str:
    return f"{number(figure.median)} {figure.unit}"


def _early(name: str, result: Result) -> list[str]:
    target = result.target(name)
    assert target
    cells = [cell for cell in target.cells if cell.kind == "decode" and cell.samples]
    asked, got = sum(cell.asked_tokens for cell in cells), sum(cell.got_tokens for cell in cells)
    problems = {cell.problem for cell in target.cells if cell.problem}
    early = [f"answers ended early, after {got / asked:.0%} of the tokens asked for"] if got < asked else []
    return [*early, *sorted(problems)]
