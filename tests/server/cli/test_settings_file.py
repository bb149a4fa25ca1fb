"""Changing one value in the settings file."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.errors import SettingsError
from cupola_server.cli.settings_file import write_setting


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[cache]\ndir = "/new"\n'),
        ("[cache]\n", '[cache]\ndir = "/new"\n'),
        ('[cache]\ndir = "/old" # mine\n[server]\nport = 1\n', '[cache]\ndir = "/new" # mine\n[server]\nport = 1\n'),
        ("[ cache ] # here\n# dir = 1\n", '[ cache ] # here\ndir = "/new"\n# dir = 1\n'),
        ('[server]\nport = 1\n\n[cache]\ndir="a # b"', '[server]\nport = 1\n\n[cache]\ndir = "/new"\n'),
    ],
)
def test_one_setting_is_changed_and_everything_else_is_preserved(tmp_path, before, after):
    path = tmp_path / "config.toml"
    path.write_text(before)
    write_setting(path, "cache", "dir", "/new")
    assert path.read_text() == after


@pytest.mark.parametrize(
    "text", ['cache.dir = "/old"\n', 'cache = { dir = "/old" }\n', "[cache\n", '[cache]\n"dir" = 1\n']
)
def test_a_file_with_unusual_syntax_is_not_changed(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        write_setting(path, "cache", "dir", "/new")
    assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_string_can_be_set_and_read_back(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("settings") / "new" / "config.toml"
    for _ in range(2):
        write_setting(Path(path), "cache", "dir", text)
    assert tomllib.loads(path.read_text("utf-8")) == {"cache": {"dir": text}}
