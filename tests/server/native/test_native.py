"""Cupola's own front-end and `cupola ps`, over a real service with the echo provider."""

import json
import re

import httpx
import pytest

from machine import Machine


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    machine.end()


@pytest.fixture
def url(machine):
    assert machine.run("model", "download", "echo").returncode == 0
    process = machine.start("serve", "--port", "0")
    yield re.search(r"http://\S+", process.stdout.readline()).group()
    process.terminate()
    process.communicate(timeout=30)


def test_what_is_loaded_is_listed_with_the_kind_of_session_and_why(machine, url):
    assert httpx.get(f"{url}/cupola/ps").json() == {"models": []}
    loaded = httpx.post(f"{url}/cupola/load", json={"model": "echo", "ttl": 50}).json()
    (listed,) = httpx.get(f"{url}/cupola/ps").json()["models"]
    assert listed["id"] == loaded["id"] == "echo-generic-cpu:1"
    assert (listed["session"], listed["reason"], listed["ttl_s"]) == ("generator", "it only echoes", 50)
    assert listed["memory_bytes"] > 0

    run = machine.run("ps", "--url", url)
    assert "it only echoes" in run.stdout
    assert json.loads(machine.run("ps", "--url", url, "--output", "json").stdout)[0]["alias"] == "echo"


def test_a_model_is_unloaded_once_and_not_twice(url):
    httpx.post(f"{url}/cupola/load", json={"model": "echo"})
    assert httpx.post(f"{url}/cupola/unload", json={"model": "echo"}).json() == {"unloaded": True}
    assert httpx.post(f"{url}/cupola/unload", json={"model": "echo"}).json() == {"unloaded": False}


def test_a_model_in_use_is_not_unloaded_unless_forced(url):
    body = {"model": "echo", "messages": [{"role": "user", "content": "forever slow"}], "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        refused = httpx.post(f"{url}/cupola/unload", json={"model": "echo", "wait": 0})
        assert refused.status_code == 409
        assert httpx.post(f"{url}/cupola/unload", json={"model": "echo", "force": True}).json() == {"unloaded": True}
        assert "unloaded" in list(lines)[-2] or any('"error"' in line for line in lines)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("load", {"model": "none"}, 404), ("load", {}, 400), ("unload", {"model": "echo", "wiat": 1}, 400)],
)
def test_bad_requests_are_explained(url, path, body, status):
    reply = httpx.post(f"{url}/cupola/{path}", json=body)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_ps_without_a_service_says_how_to_start_one(machine):
    run = machine.run("ps", "--url", "http://127.0.0.1:9")
    assert run.returncode == 1
    assert "cupola serve" in run.stderr


def test_a_fallback_is_shown_with_the_nodes(machine):
    machine.config.write_text(
        "[models]\nallow_fallback = true\n"
        "[providers.echo.nodes]\nEchoExecutionProvider = 1\nCPUExecutionProvider = 9\n",
        "utf-8",
    )
    assert machine.run("model", "download", "echo").returncode == 0
    process = machine.start("serve", "--port", "0")
    url = re.search(r"http://\S+", process.stdout.readline()).group()
    loaded = httpx.post(f"{url}/cupola/load", json={"model": "echo"}).json()
    assert (loaded["nodes"], loaded["fallback"]) == ({"EchoExecutionProvider": 1, "CPUExecutionProvider": 9}, True)
    shown = machine.run("ps", "--url", url, COLUMNS="200").stdout
    assert "Echo 1, CPU 9" in shown
    assert "yes" in shown
    process.terminate()
    process.communicate(timeout=30)


def test_ps_finds_the_service_in_the_background_by_itself(machine):
    machine.run("model", "download", "echo")
    assert machine.run("ps").returncode == 1
    machine.ensure().communicate(timeout=30)
    assert machine.run("ps").stderr == "No models are loaded.\n"
    with machine.client() as client:
        client.load_model("echo")
    assert "it only echoes" in machine.run("ps").stdout


def test_downloads_can_be_begun_watched_and_listed(machine, url):
    started = httpx.post(f"{url}/cupola/downloads", json={"model": "echo"}).json()
    assert (started["id"], started["state"]) == ("echo-generic-cpu:1", "done")
    failed = httpx.post(f"{url}/cupola/download", json={"model": "unreachable"})
    assert failed.status_code == 502
    listed = httpx.get(f"{url}/cupola/downloads").json()["downloads"]
    assert [(each["alias"], each["state"]) for each in listed] == [("unreachable", "failed")]
    assert "too high" in listed[0]["error"]
    assert httpx.post(f"{url}/cupola/downloads/cancel", json={"model": "echo"}).json() == {"cancelled": False}
    events = httpx.post(f"{url}/cupola/download", json={"model": "unreachable", "stream": True}).text
    assert events.startswith('data: {"id":"unreachable-generic-cpu:1"')
    assert '"error":{' in events.splitlines()[-2]


def test_the_catalog_tells_what_is_here_and_what_is_loaded(url):
    models = {each["info"]["alias"]: each for each in httpx.get(f"{url}/cupola/models").json()["models"]}
    assert (models["echo"]["cached"], models["echo"]["loaded"], models["unreachable"]["cached"]) == (True, False, False)
