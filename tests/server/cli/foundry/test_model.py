"""`foundry model` and `foundry cache`, with a real service, a real engine and a real cache."""

import json
import re

import pytest

ECHO = "echo-generic-cpu:1"
STARTED = re.compile(r"🟢 Service is Started on (http://127\.0\.0\.1:\d+)/, PID (\d+)!\n")
FOUND = f"Model {ECHO} was found in the local cache.\n"
TIPS = (
    "Tips:\n"
    "- To find model cache location use: foundry cache location\n"
    "- To find models already downloaded use: foundry cache ls\n"
)


@pytest.mark.parametrize("command", ["list", "ls"])
def test_models_are_listed(served, command):
    lines = served("model", command).stdout.splitlines()
    assert [line.split()[-1] for line in lines[::2]] == ["ID", ECHO, "unreachable-generic-cpu:1"]


def test_a_list_may_be_filtered_and_read_by_programs(served):
    shown = served("model", "list", "--filter", "alias=!unr*", "--filter", "device=cpu", "--output", "json")
    (model,) = json.loads(shown.stdout)
    assert (model["id"], model["cached"], model["loaded"]) == (ECHO, False, False)
    assert len(served("model", "list", "--filter", "device=NPU").stdout.splitlines()) == 2


def test_no_models_at_all_are_told_in_the_originals_words(served, monkeypatch):
    monkeypatch.setenv("CUPOLA_PLUGINS_DISABLED", '["starter", "shelf"]')
    result = served("model", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Exception: No models were returned from the Azure Foundry catalog.\n"


def test_info_shows_the_variants_of_an_alias(served):
    lines = served("model", "info", "ECHO").stdout.splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["echo", "CPU", "chat", "0.00", "GB", "MIT", ECHO]
    assert served("model", "info", "echo-generic-cpu", "--license").stdout == "MIT\n"
    assert json.loads(served("model", "info", "echo", "-o", "json").stdout)[0]["context_length"] == 4096


@pytest.mark.parametrize("command", ["info", "download", "load", "unload", "run"])
def test_an_unknown_model_is_told_in_the_originals_words(served, command):
    result = served("model", command, "ecko")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Exception: Model ecko was not found in the catalog\n"


def test_a_device_that_no_variant_is_for_is_told(served):
    result = served("model", "info", "echo", "--device", "gpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "for device GPU, only for CPU" in result.stderr


def test_a_model_that_is_not_here_is_not_loaded(served):
    result = served("model", "load", "echo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Exception: Model echo was not found in the local cache.")
    assert served("model", "unload", "echo").stderr == "Exception: Model echo is not loaded.\n"


def test_a_download_that_fails_is_one_exception_and_exit_code_1(served):
    result = served("model", "download", "unreachable")
    assert result.exit_code == 1
    assert result.stdout == "Downloading unreachable-generic-cpu:1...\n\n"
    assert result.stderr.startswith("Exception: ")
    assert "the shelf is too high" in result.stderr


def test_a_token_is_not_silently_ignored(served):
    result = served("model", "download", "echo", "--token", "secret")
    assert result.exit_code == 1
    assert "secret" not in result.stderr


def test_a_download_shows_what_the_original_shows(machine):
    done = machine.run("model", "download", "echo", "--device", "CPU")
    assert (done.returncode, done.stderr) == (0, "")
    started, first, *bars, tips, where, which = [line for line in done.stdout.splitlines() if line]  # \r ends one too
    assert STARTED.fullmatch(f"{started}\n")
    assert first == f"Downloading {ECHO}..."
    assert re.search(r"\[#{36}\] 100\.00 % \[Time remaining: about 0s\] {2,}\d+\.\d MB/s$", bars[-1])
    assert f"{tips}\n{where}\n{which}\n" == TIPS
    again = machine.run("model", "download", "echo")
    assert (again.returncode, again.stdout) == (0, FOUND)
    forced = machine.run("model", "download", "echo", "--force")
    assert forced.stdout.startswith(f"Downloading {ECHO}...\n")


def test_the_first_command_starts_the_service_and_says_so_where_nobody_parses(machine):
    listed = machine.run("model", "list", "-o", "json")
    json.loads(listed.stdout)
    url, pid = STARTED.fullmatch(listed.stderr).groups()
    assert (machine.agent().url, machine.agent().pid) == (url, int(pid))
    assert "Started" not in machine.run("model", "list").stdout


def test_a_list_does_not_need_the_service_that_cannot_start(machine):
    machine.service.write_text("a file where the folder of the service should be")
    listed = machine.run("model", "list")
    assert (listed.returncode, listed.stdout.count(ECHO)) == (0, 1)
    assert listed.stderr.startswith("Warning: The service did not start.")
    loaded = machine.run("model", "load", "echo")
    assert (loaded.returncode, loaded.stdout) == (1, "")
    assert loaded.stderr.startswith("Exception: The service did not start.")


def test_the_cache_is_listed_located_and_cleared(foundry, machine):
    assert STARTED.sub("", foundry("cache", "location").stdout) == f"💾 Cache directory path: {machine.cache}\n"
    assert json.loads(foundry("cache", "location", "--output", "json").stdout) == {"path": str(machine.cache)}
    assert foundry("cache", "ls").stdout == "No models cached on device\n"
    foundry("model", "download", "echo")
    assert foundry("cache", "list").stdout.splitlines()[2] == f"💾 {'echo':<50}{ECHO}"
    assert json.loads(foundry("cache", "list", "--output", "json").stdout)[0]["id"] == ECHO
    foundry("model", "load", "echo")
    assert foundry("cache", "remove", "echo", "--yes").stdout == (
        f"⚠️ This will delete model 'echo ({ECHO})' from cache.\nDeleted model {ECHO} from the cache.\n"
    )
    gone = foundry("cache", "remove", "echo", "--yes")
    assert (gone.exit_code, gone.stderr) == (1, "Exception: Model echo was not found in the local cache.\n")
    assert foundry("model", "unload", "echo").stderr == "Exception: Model echo is not loaded.\n"


def test_removing_asks_first(foundry):
    foundry("model", "download", "echo")
    question = (
        f"⚠️ This will delete model 'echo ({ECHO})' from cache.\n"
        "⚠️ Are you sure you want to delete this model from the local cache? (y/n)\n"
    )
    for no in ("n\n", "", "what\n"):
        refused = foundry("cache", "remove", "echo", input=no)
        assert (refused.exit_code, refused.stdout) == (1, question)
    agreed = foundry("cache", "remove", "echo", input="y\n")
    assert agreed.stdout == f"{question}Deleted model {ECHO} from the cache.\n"


def test_the_cache_may_be_moved(machine, tmp_path):
    machine.config.write_text(f"[cache]\ndir = '{machine.cache}'  # mine\n")
    machine.extra["CUPOLA_CACHE_DIR"] = None
    assert STARTED.match(machine.run("model", "list").stdout)
    moved = machine.run("cache", "cd", str(tmp_path / "elsewhere"))
    assert (moved.returncode, moved.stderr) == (0, "")
    restarting, stopped, started = moved.stdout.splitlines()
    assert (restarting, stopped) == ("Restarting service...", "🔴 Service is stopped.")
    assert STARTED.fullmatch(f"{started}\n")
    assert machine.run("cache", "location").stdout == f"💾 Cache directory path: {tmp_path / 'elsewhere'}\n"
    assert "# mine" in machine.config.read_text()
