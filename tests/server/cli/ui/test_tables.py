"""Listings: columns in a pipe, JSON when asked."""

import json

import click

from cupola_server.cli.ui.tables import Column, format_bytes, show_fields, show_rows

COLUMNS = (
    Column("name", "Name", long=True),
    Column("size", "Size", format_bytes, right=True),
    Column("here", "Here", lambda here: "yes" if here else ""),
)
ROWS = [
    {"name": "tiny", "size": 93_400_000, "here": True, "more": [1]},
    {"name": "a\nlong  name", "size": 8_370_000_000, "here": False, "more": []},
]


def test_a_pipe_gets_aligned_columns_without_colour_or_trailing_blanks(capsys):
    show_rows(ROWS, COLUMNS, output="table", empty="none")
    assert capsys.readouterr().out.splitlines() == [
        "Name            Size  Here",
        "tiny           93 MB  yes",
        "a long name  8.37 GB",
    ]


def test_json_contains_all_keys_of_a_row(capsys):
    show_rows(ROWS, COLUMNS, output="json", empty="none")
    assert json.loads(capsys.readouterr().out) == ROWS


def test_an_empty_listing_is_a_message_on_stderr_and_an_empty_list_in_json(capsys):
    show_rows([], COLUMNS, output="table", empty="Nothing here.")
    assert capsys.readouterr() == ("", "Nothing here.\n")
    show_rows([], COLUMNS, output="json", empty="Nothing here.")
    assert capsys.readouterr() == ("[]\n", "")


def test_a_terminal_gets_a_table_in_which_nothing_is_cut_off(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "36")
    monkeypatch.setenv("TERM", "xterm")
    show_rows([{"name": "[bold]" + "x" * 60, "size": 0, "here": True}], COLUMNS, output="table", empty="none")
    out = click.unstyle(capsys.readouterr().out)
    assert out.count("x") == 60
    assert "[bold]" in out
    assert all(len(line) <= 36 for line in out.splitlines())


def test_a_terminal_too_narrow_even_for_a_folded_table_gets_paragraphs(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    columns = (*COLUMNS, Column("id", "Id"))
    show_rows([{**row, "id": "x" * 20} for row in ROWS], columns, output="table", empty="none")
    assert capsys.readouterr().out.splitlines() == [
        "Name  tiny",
        "Size  93 MB",
        "Here  yes",
        f"Id    {'x' * 20}",
        "",
        "Name  a long name",
        "Size  8.37 GB",
        f"Id    {'x' * 20}",
    ]


def test_one_row_is_shown_field_by_field_without_empty_fields(capsys):
    show_fields({"name": "tiny", "size": 0, "here": True}, COLUMNS, output="table")
    assert capsys.readouterr().out == "Name  tiny\nHere  yes\n"


def test_sizes_are_formatted():
    assert [format_bytes(size) for size in (0, 1, 1_600_000, 999_000_000, 1_000_000_000)] == [
        "",
        "1 MB",
        "2 MB",
        "999 MB",
        "1.00 GB",
    ]
