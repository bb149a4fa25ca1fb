"""`foundry model` and `foundry cache`, with a real engine and a real cache."""

import json
import re

import pytest

FOUND = "Model echo-generic-cpu:1 was found in the local cache.\n"
TIPS = (
    "Tips:\n"
    "- To find model cache location use: foundry cache location\n"
    "- To find models already downloaded use: foundry cache ls\n"
)


@pytest.mark.parametrize("command", ["list", "ls"])
def test_models_are_listed(foundry, command):
    lines = foundry("model", command).stdout.splitlines()
    assert [line.split()[-1] for line in lines[::2]] == ["ID", "echo-generic-cpu:1", "unreachable-generic-cpu:1"]


def test_a_list_may_be_filtered_and_read_by_programs(foundry):
    shown = foundry("model", "list", "--filter", "alias=!unr*", "--filter", "device=cpu", "--output", "json")
    (model,) = json.loads(shown.stdout)
    assert (model["id"], model["cached"], model["loaded"]) == ("echo-generic-cpu:1", False, False)
    assert len(foundry("model", "list", "--filter", "device=NPU").stdout.splitlines()) == 2


def test_no_models_at_all_are_told_in_the_originals_words(foundry, monkeypatch):
    monkeypatch.setenv("CUPOLA_PLUGINS_DISABLED", '["starter", "shelf"]')
    result = foundry("model", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Exception: No models were returned from the Azure Foundry catalog.\n"


def test_info_shows_the_variants_of_an_alias(foundry):
    lines = foundry("model", "info", "ECHO").stdout.splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["echo", "CPU", "chat", "0.00", "GB", "MIT", "echo-generic-cpu:1"]
    assert foundry("model", "info", "echo-generic-cpu", "--license").stdout == "MIT\n"
    assert json.loads(foundry("model", "info", "echo", "-o", "json").stdout)[0]["context_length"] == 4096


@pytest.mark.parametrize("command", [("info",), ("download",)])
def test_an_unknown_model_is_told_in_the_originals_words(foundry, command):
    result = foundry("model", *command, "ecko")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Exception: Model ecko was not found in the catalog\n"


def test_a_device_that_no_variant_is_for_is_told(foundry):
    result = foundry("model", "info", "echo", "--device", "gpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "for device GPU, only for CPU" in result.stderr


def test_a_download_shows_what_the_original_shows(machine):
    done = machine.run("model", "download", "echo", "--device", "CPU")
    assert (done.returncode, done.stderr) == (0, "")
    first, *bars, tips, where, which = [line for line in done.stdout.splitlines() if line]  # \\r ends a line as well
    assert first == "Downloading echo-generic-cpu:1..."
    assert re.search(r"\[#{36}\] 100\.00 % \[Time remaining: about 0s\] {2,}\d+\.\d MB/s$", bars[-1])
    assert f"{tips}\n{where}\n{which}\n" == TIPS
    again = machine.run("model", "download", "echo")
    assert (again.returncode, again.stdout) == (0, FOUND)
    forced = machine.run("model", "download", "echo", "--force")
    assert forced.stdout.startswith("Downloading echo-generic-cpu:1...\n")


def test_a_download_that_fails_is_one_exception_and_exit_code_1(foundry):
    result = foundry("model", "download", "unreachable")
    assert result.exit_code == 1
    assert result.stdout == "Downloading unreachable-generic-cpu:1...\n\n"
    assert result.stderr.startswith("Exception: ")
    assert "the shelf is too high" in result.stderr


def test_a_token_is_not_silently_ignored(foundry):
    result = foundry("model", "download", "echo", "--token", "secret")
    assert result.exit_code == 1
    assert "secret" not in result.stderr


def test_the_cache_is_listed_located_and_cleared(foundry, machine):
    assert foundry("cache", "location").stdout == f"💾 Cache directory path: {machine.cache}\n"
    assert json.loads(foundry("cache", "location", "--output", "json").stdout) == {"path": str(machine.cache)}
    assert foundry("cache", "ls").stdout == "No models cached on device\n"
    foundry("model", "download", "echo")
    assert foundry("cache", "list").stdout.splitlines()[2] == f"💾 {'echo':<50}echo-generic-cpu:1"
    assert json.loads(foundry("cache", "list", "--output", "json").stdout)[0]["id"] == "echo-generic-cpu:1"
    assert foundry("cache", "remove", "echo", "--yes").stdout == (
        "⚠️ This will delete model 'echo (echo-generic-cpu:1)' from cache.\n"
        "Deleted model echo-generic-cpu:1 from the cache.\n"
    )
    gone = foundry("cache", "remove", "echo", "--yes")
    assert (gone.exit_code, gone.stderr) == (1, "Exception: Model echo was not found in the local cache.\n")


def test_removing_asks_first(foundry):
    foundry("model", "download", "echo")
    question = (
        "⚠️ This will delete model 'echo (echo-generic-cpu:1)' from cache.\n"
        "⚠️ Are you sure you want to delete this model from the local cache? (y/n)\n"
    )
    for no in ("n\n", "", "what\n"):
        refused = foundry("cache", "remove", "echo", input=no)
        assert (refused.exit_code, refused.stdout) == (1, question)
    agreed = foundry("cache", "remove", "echo", input="y\n")
    assert agreed.stdout == f"{question}Deleted model echo-generic-cpu:1 from the cache.\n"
