"""Listings: a table in a terminal, aligned columns in a pipe, or JSON with `--output json`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click

Output = Literal["table", "json"]
Row = Mapping[str, Any]

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to show the result.",
)


_FOLDED_WIDTH = 16
_GAP_WIDTH = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing.

    In a terminal too narrow for the table, `long` columns are folded; if that is not enough, each row is printed as a
    paragraph.

    Attributes:
        key: The key of the row's value.
        title: The heading.
        text: Formats the value.
        right: Whether the texts are right-aligned.
        long: Whether the column may be folded.
    """

    key: str
    title: str
    text: Callable[[Any], str] = str
    right: bool = False
    long: bool = False


def show_rows(rows: Sequence[Row], columns: Sequence[Column], *, output: Output, empty: str) -> None:
    """Print a listing to stdout.

    Args:
        rows: One mapping per line. JSON contains all keys, the table only those of `columns`.
        columns: The columns from left to right.
        output: "json" or "table".
        empty: The message on stderr instead of a table without rows.
    """
    if output == "json":
        show_json(rows)
    elif not rows:
        click.echo(empty, err=True)
    else:
        cells = [[_one_line(column.text(row[column.key])) for column in columns] for row in rows]
        show = _show_table if sys.stdout.isatty() else _show_columns
        show(columns, cells)


def show_json(value: object) -> None:
    """Print a value as indented JSON."""
    import msgspec  # noqa: PLC0415

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def show_fields(row: Row, columns: Sequence[Column], *, output: Output) -> None:
    """Print one row, with a line for each column whose text is not empty."""
    if output == "json":
        show_json(row)
        return
    _show_paragraph(columns, [_one_line(column.text(row[column.key])) for column in columns])


def format_bytes(size_bytes: int) -> str:
    """Format a size as "93 MB" or "8.37 GB"; empty for 0, which means unknown."""
    if not size_bytes:
        return ""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{max(size_bytes / 1e6, 1):.0f} MB"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_paragraph(columns: Sequence[Column], cells: Sequence[str]) -> None:
    width = max(len(column.title) for column in columns)
    for column, text in zip(columns, cells, strict=True):
        if text:
            click.echo(f"{column.title:<{width}}  {text}")


def _show_columns(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    lines = [[column.title for column in columns], *cells]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            f"{cell:>{width}}" if column.right else f"{cell:<{width}}"
            for column, cell, width in zip(columns, line, widths, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _show_table(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - slow to import
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(markup=False, emoji=False, highlight=False)
    if _min_width(columns, cells) > console.width:
        for number, line in enumerate(cells):
            click.echo(nl=bool(number))
            _show_paragraph(columns, line)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, overflow="fold", no_wrap=not column.long)
    for line in cells:
        table.add_row(*line)
    console.print(table)


def _min_width(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> int:
    """Return the smallest width of a table in characters: only long columns can be folded."""
    widths = [max(map(len, texts)) for texts in zip([column.title for column in columns], *cells, strict=True)]
    folded = [min(w, _FOLDED_WIDTH) if c.long else w for c, w in zip(columns, widths, strict=True)]
    return sum(folded) + _GAP_WIDTH * len(columns)
