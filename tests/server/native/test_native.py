"""Cupola's own front-end and `cupola ps`, over a real service with the echo provider."""

import json
import re

import httpx
import pytest

from machine import Machine


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


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
