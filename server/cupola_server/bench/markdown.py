"""The result as a rich table in a terminal, and as Markdown."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from cupola_server.bench.report import cell_text, growth_text, notes, ratios_of, remarks, sections_of, where
from cupola_server.bench.results import Result

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
