"""The report as a table in the terminal, and as Markdown."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from cupola_server.bench.report import (
    build_notes,
    build_ratio_sections,
    build_remarks,
    build_sections,
    describe_growth,
    format_cell,
    format_machine,
)
from cupola_server.bench.results import Result

_WIDTH_IN_PIPE = 1000


def print_report(result: Result) -> None:
    """Print a table for each section, with a line for each target, then remarks and notes."""
    console = open_console()
    titles = [target.title for target in result.targets]
    for section in [*build_sections(result), *build_ratio_sections(result)]:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=section.title, title_justify="left")
        table.add_column("")
        for row in section.rows:
            table.add_column(f"{row.title}\n{row.unit}".rstrip(), justify="right", overflow="fold")
        for index, title in enumerate(titles):
            table.add_row(title, *(format_cell(row, index) for row in section.rows))
        console.print(table)
    for line in [*build_remarks(result), *build_notes(result), *map(describe_growth, result.curves)]:
        console.print(line, soft_wrap=True)


def open_console() -> Console:
    """Return a console on standard output for tables: as wide as the terminal, and in a pipe wide enough for any."""
    width = None if sys.stdout.isatty() else _WIDTH_IN_PIPE
    return Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)


def render_markdown(result: Result) -> str:
    """Return the report as Markdown."""
    lines = [f"{format_machine(result.machine)}.", ""]
    for section in [*build_sections(result), *build_ratio_sections(result)]:
        heads = [f"{row.title}{f', {row.unit}' if row.unit else ''}" for row in section.rows]
        lines += [f"**{section.title}**", "", f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
        for index, target in enumerate(result.targets):
            cells = " | ".join(format_cell(row, index) for row in section.rows)
            lines.append(f"| {target.title} | {cells} |")
        lines.append("")
    lines += [f"- {line}" for line in [*build_remarks(result), *build_notes(result)]]
    lines += [f"- {describe_growth(curve)}" for curve in result.curves]
    return "\n".join(lines) + "\n"
