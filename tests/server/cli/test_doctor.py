"""`cupola doctor`, with providers that fail as drivers do."""

import json
import time

import psutil
import pytest


@pytest.fixture
def examined(machine, tmp_path):
    """Run the doctor in its own process and return its output."""
    machine.install("faulty", "faulty_providers")
    machine.install("apart", "apart_plugin")

    def examined(*words, **environment):
        settings = ("--set", f"machine.dir={tmp_path / 'machine'}", "--set", "machine.probe_timeout_s=8")
        return machine.run(*settings, "doctor", *words, **environment)

    return examined


def test_every_provider_is_diagnosed_and_a_bad_one_does_not_affect_the_others(examined, machine):
    started = time.perf_counter()
    found = json.loads(examined("--output", "json").stdout)
    elapsed_s = time.perf_counter() - started
    shown = {each["alias"]: each for each in found["providers"]}
    assert {alias: each["status"] for alias, each in shown.items()} == {
        "echo": "usable",
        "fine": "usable",
        "bare": "no device",
        "apart": "not installed",
        **dict.fromkeys(("crashing", "hanging", "unimportable", "lying"), "broken"),
    }
    assert shown["apart"]["remedy"] == "cupola provider install apart"
    assert shown["apart"]["packages"] == ["apart_driver==1.0"]
    assert shown["bare"]["problem"] == "there is no accelerator"
    assert "SIGSEGV" in shown["crashing"]["problem"]
    assert all(each["problem"] and each["remedy"] for each in shown.values() if each["status"] != "usable")
    assert not any(each["problem"] for each in shown.values() if each["status"] == "usable")
    assert elapsed_s < 30  # the one that hangs has 8 s; a loaded machine has time for the rest
    assert [process for process in psutil.process_iter() if is_of(process, machine)] == []


def is_of(process, machine):
    """Return whether this test's program or its children started a process, by the environment they all inherit."""
    try:
        return process.environ().get("CUPOLA_CONFIG") == str(machine.config)
    except psutil.Error:
        return False


def test_the_report_describes_the_machine_and_the_models_of_each_provider(examined):
    found = json.loads(examined("--output", "json", FAULTY_PROVIDERS="fine").stdout)
    assert found["memory_bytes"] >= found["memory_available_bytes"] > 0
    assert 1 <= found["cores"] <= found["threads"]
    assert all(disk["free_bytes"] <= disk["total_bytes"] for disk in found["disks"])
    assert found["versions"]["onnxruntime-genai"]
    assert found["models"]["EchoExecutionProvider"] == ["echo-generic-cpu:1", "unreachable-generic-cpu:1"]
    assert found["models"]["FineExecutionProvider"] == []


def test_the_table_shows_problems_and_remedies(examined, machine):
    machine.install("broken", "there_is_no_such_module")
    result = examined(FAULTY_PROVIDERS="bare")
    assert result.returncode == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("bare "))
    assert "there is no accelerator" in line
    assert "buy one" in line
    assert "the plugin broken failed at import" in result.stderr


def test_a_provider_without_packages_for_this_machine_is_reported(examined):
    elsewhere = {"APART_REQUIREMENTS": "x==1; sys_platform == 'plan9'", "FAULTY_PROVIDERS": "fine"}
    found = json.loads(examined("-o", "json", **elsewhere).stdout)
    apart = next(each for each in found["providers"] if each["alias"] == "apart")
    assert apart["status"] == "not for this machine"
    assert apart["packages"] == []
    assert apart["remedy"] == "It wants a driver from its vendor."
