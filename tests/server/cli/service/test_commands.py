"""The output of `foundry service`, byte for byte, and how SDKs parse it."""

import json
import re

import pytest

from cupola.discovery.processes import is_alive

PYTHON_AND_JS = re.compile(r"http://(?:[a-zA-Z0-9.-]+|\d{1,3}(\.\d{1,3}){3}):\d+")
CSHARP = re.compile(r"is running on (http://.*)\s+")


def test_start_status_and_stop_print_what_foundry_local_prints(foundry, machine):
    started = foundry("start")
    info = machine.agent()
    assert started.stdout == f"🟢 Service is Started on {info.url}/, PID {info.pid}!\n"
    assert foundry("start").stdout == f"🟢 Service is already running on {info.url}/.\n"
    status = foundry("status").stdout
    assert status == (
        f"🟢 Model management service is running on {info.url}/openai/status\n"
        "EP autoregistration status: Successfully downloaded and registered the following EPs: EchoExecutionProvider.\n"
        "Valid EPs: EchoExecutionProvider\n"
    )
    assert PYTHON_AND_JS.search(status).group() == info.url
    assert CSHARP.search(status).group(1) == f"{info.url}/openai/status"
    assert PYTHON_AND_JS.search(started.stdout).group() == info.url
    assert foundry("stop").stdout == "🔴 Service is stopped.\n"
    assert foundry("stop").stdout == "🔴 Service is stopped.\n"


def test_a_provider_that_is_not_installed_is_not_listed_as_registered(foundry, machine):
    machine.install("apart", "apart_plugin")
    foundry("start")
    assert "Valid EPs: EchoExecutionProvider\n" in foundry("status").stdout


def test_after_a_stop_the_process_is_gone(cupola, machine):
    for _ in range(3):
        cupola("start")
        info = machine.agent()
        assert is_alive(info.pid, info.born)
        cupola("stop")
        assert not is_alive(info.pid, info.born)


@pytest.mark.parametrize("program", ["foundry", "cupola"])
def test_without_a_service_the_status_contains_no_address_and_succeeds(machine, program):
    run = machine.program(program, "service", "status")
    assert (run.returncode, run.stdout) == (
        0,
        "🔴 Model management service is not running!\n"
        f"To start the service, run the following command: {program} service start\n",
    )
    assert PYTHON_AND_JS.search(run.stdout) is None


def test_restart_reports_the_stop_and_the_start(foundry, machine):
    foundry("start")
    first = machine.agent()
    restarted = foundry("restart")
    second = machine.agent()
    assert restarted.stdout == f"🔴 Service is stopped.\n🟢 Service is Started on {second.url}/, PID {second.pid}!\n"
    assert first.pid != second.pid


@pytest.mark.parametrize("word", ["ps", "list"])
def test_loaded_models_are_listed_by_alias_and_id(foundry, machine, word):
    assert foundry(word).stdout == "No models are currently loaded in the service\n"
    machine.run("model", "download", "echo")
    foundry("start")
    assert foundry(word).stdout == "No models are currently loaded in the service\n"
    with machine.client() as client:
        client.load_model("echo")
    assert foundry(word).stdout == (
        "Models running in service:\n"
        "    Alias                          Model ID\n"
        "🟢  echo                           echo-generic-cpu:1\n"
    )
    (listed,) = json.loads(foundry(word, "--output", "json").stdout)
    assert (listed["alias"], listed["id"]) == ("echo", "echo-generic-cpu:1")


def test_status_and_start_print_json(foundry, machine):
    assert json.loads(foundry("status", "--output", "json").stdout) == {"running": False, "state": "not_running"}
    started = json.loads(foundry("start", "-o", "json").stdout)
    info = machine.agent()
    assert (started["webUrls"], started["pid"]) == ([info.url], info.pid)
    assert started["port"] == int(info.url.rpartition(":")[2])
    status = json.loads(foundry("status", "-o", "json").stdout)
    assert (status["running"], status["state"], status["logFile"]) == (True, "ready", info.log)
    assert status["executionProviders"] == ["EchoExecutionProvider"]


def test_diag_shows_details_and_the_log(foundry, machine):
    foundry("start")
    info = machine.agent()
    diagnosis = foundry("diag").stdout
    assert f"Service  running on {info.url}/, PID {info.pid}\n" in diagnosis
    last = foundry("diag", "--logs", "-n", "1").stdout
    assert f"listens on {info.url}" in last
    assert last.count("\n") == 1
    foundry("stop")
    assert "Service  not running\n" in foundry("diag").stdout
