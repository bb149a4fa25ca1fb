"""`cupola cache verify`, `export`, `import` and `cd`, with a real cache."""

import json
import tomllib

import pytest


@pytest.fixture
def echo(cupola, machine):
    """The folder of a downloaded model."""
    assert cupola("model", "download", "echo").exit_code == 0
    return next(machine.cache.glob("**/genai_config.json")).parent


def test_whole_models_pass_and_broken_ones_are_named_with_their_files(cupola, echo):
    whole = cupola("cache", "verify")
    assert (whole.exit_code, whole.stdout.splitlines()[1].split()[:2]) == (0, ["echo-generic-cpu:1", "whole"])
    (echo / "genai_config.json").write_text("[]")
    broken = cupola("cache", "verify", "echo", "--output", "json")
    (result,) = json.loads(broken.stdout)
    assert (broken.exit_code, result["verdict"], result["path"]) == (1, "broken", str(echo))
    assert "genai_config.json: other content" in result["faults"][0]
    assert "cache remove" in broken.stderr


def test_a_truncated_model_is_not_listed_but_can_be_verified_and_removed(cupola, echo):
    (echo / "genai_config.json").write_text("")
    assert json.loads(cupola("cache", "list", "-o", "json").stdout) == []
    assert "0 bytes instead of 2" in cupola("cache", "verify", "echo").stdout
    assert cupola("cache", "remove", "echo", "--yes").stdout == "echo-generic-cpu:1 was deleted.\n"
    assert not echo.exists()


@pytest.mark.parametrize("words", [("verify", "echo"), ("export", "echo"), ("remove", "echo", "--yes")])
def test_a_model_that_is_not_downloaded_is_an_error(cupola, words):
    result = cupola("cache", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "'echo' is not downloaded" in result.stderr


@pytest.mark.parametrize("command", ["verify", "export", "remove"])
def test_an_unknown_name_gets_suggestions(cupola, command):
    assert "Did you mean 'echo'" in cupola("cache", command, "ecko").stderr


def test_an_empty_cache_has_nothing_to_verify(cupola):
    result = cupola("cache", "verify")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing to check" in result.stderr


def test_an_exported_model_is_imported_without_network_and_catalog(cupola, echo, machine, tmp_path, monkeypatch):
    target = tmp_path / "stick"
    target.mkdir()
    exported = cupola("cache", "export", "echo", str(target))
    file = target / "echo-generic-cpu-1.tar"
    assert exported.stdout.startswith(f"echo-generic-cpu:1 was exported to {file}")
    again = cupola("cache", "export", "echo", str(file))
    assert (again.exit_code, "--force" in again.stderr) == (1, True)
    assert cupola("cache", "export", "echo", str(file), "--force").exit_code == 0
    monkeypatch.setenv("CUPOLA_CACHE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("CUPOLA_PLUGINS_DISABLED", '["starter", "cpu", "shelf"]')
    imported = cupola("cache", "import", str(file))
    assert imported.stdout.startswith("echo-generic-cpu:1 is in the cache")
    assert [each["alias"] for each in json.loads(cupola("model", "list", "-o", "json").stdout)] == ["echo"]
    offline = {
        "CUPOLA_CACHE_DIR": str(tmp_path / "elsewhere"),
        "CUPOLA_PLUGINS_DISABLED": '["starter", "cpu", "shelf"]',
    }
    assert machine.run("model", "run", "echo", "--prompt", "hi", **offline).stdout == "hi\n"


def test_a_file_that_is_not_an_export_is_reported_in_one_sentence(cupola, tmp_path):
    (tmp_path / "file.tar").write_bytes(b"nothing of the kind")
    result = cupola("cache", "import", str(tmp_path / "file.tar"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "file.tar" in result.stderr


def test_cd_saves_the_cache_folder_and_warns_of_what_takes_precedence(machine, tmp_path):
    machine.config.write_text("# mine\n[server]\nport = 1234 # odd\n")
    folder = tmp_path / "models elsewhere"
    said = machine.run("cache", "cd", str(folder))
    assert (said.returncode, str(machine.config) in said.stdout) == (0, True)
    assert "CUPOLA_CACHE_DIR sets it to" in said.stderr
    assert machine.config.read_text().startswith("# mine\n[server]\nport = 1234 # odd\n")
    shown = machine.run("--config", str(machine.config), "cache", "location", CUPOLA_CACHE_DIR="")
    assert shown.returncode == 0
    assert tomllib.loads(machine.config.read_text())["cache"]["dir"] == str(folder)
    assert folder.is_dir()
