"""`cupola plugins`."""

import json


def test_every_plugin_is_listed_with_its_distribution_and_what_it_contributes(cupola):
    shown = json.loads(cupola("plugins", "-o", "json").stdout)
    shelf = next(plugin for plugin in shown["plugins"] if plugin["name"] == "shelf")
    assert shelf == {
        "name": "shelf",
        "distribution": "test-shelf 1.0",
        "reference": "shelf_plugin",
        "contributes": {"catalog source": ["shelf"], "command": ["greet", "model", "foreign"]},
    }
    assert "catalog source: shelf; command: greet, model, foreign" in cupola("plugins").stdout


def test_a_failed_plugin_is_listed_with_its_stage_and_reason_and_affects_nothing_else(cupola, machine):
    machine.install("broken", "there_is_no_such_module")
    result = cupola("plugins")
    assert result.exit_code == 0
    assert "test-shelf 1.0" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("broken "))
    assert line.split(maxsplit=4)[1:4] == ["test-broken", "1.0", "import"]
    assert "there_is_no_such_module" in line


def test_strict_plugins_turns_a_failure_into_exit_code_1(cupola, machine):
    strict = ("--set", 'plugins.disabled=["starter", "cpu", "openai", "filesystem", "shelf"]', "--strict-plugins")
    assert cupola(*strict, "plugins").exit_code == 0
    machine.install("broken", "there_is_no_such_module")
    result = cupola(*strict, "plugins")
    assert result.exit_code == 1
    assert "there_is_no_such_module" in result.stdout
    assert "broken (import)" in result.stderr


def test_a_command_conflict_is_a_failure_with_strict_plugins(cupola):
    strict = ("--set", 'plugins.disabled=["starter", "cpu", "openai", "filesystem"]', "--strict-plugins")
    assert cupola(*strict, "plugins").exit_code == 1


def test_two_plugins_with_the_same_name_are_both_reported(cupola, machine):
    machine.install("other", "json", plugin="shelf")
    result = cupola("plugins")
    assert result.exit_code == 1
    assert result.stdout.startswith("Plugin ")
    assert "test-shelf 1.0" in result.stderr
    assert "test-other 1.0" in result.stderr
