"""`cupola serve` as a process with a real port."""

import json
import os
import signal
import socket
import urllib.request

import pytest

from openai_stand_in import KEY, StandIn


class Service:
    """A running `cupola serve` that has announced its address."""

    def __init__(self, machine, *words):
        self.process = machine.start("serve", "--port", "0", *words)
        line = self.process.stdout.readline()
        assert line.startswith("Cupola listens on http://127.0.0.1:"), self.end()
        self.url = line.split()[-1]

    def chat(self, text, **fields):
        body = {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return urllib.request.urlopen(request, timeout=30)

    def end(self, *signums):
        """Send the signals and return the exit code, the rest of stdout, and stderr."""
        for signum in signums:
            self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def serve(machine):
    machine.run("model", "download", "echo")
    services = []

    def start(*words):
        services.append(Service(machine, *words))
        return services[-1]

    yield start
    for service in services:
        service.process.kill()
        service.process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_announces_its_address_answers_and_stops_on_a_signal(serve, signum):
    service = serve()
    with service.chat("hello") as response:
        assert json.load(response)["choices"][0]["message"]["content"] == "hello"
    code, out, err = service.end(signum)
    assert (code, out) == (0, ""), err
    assert err.startswith("Stopping. Running requests have ")
    assert "Traceback" not in err


def test_a_signal_lets_a_running_answer_finish(serve):
    service = serve()
    with service.chat("a slow", stream=True) as response:
        first = response.readline()
        service.process.send_signal(signal.SIGTERM)
        rest = response.read()
    assert first.startswith(b"data: {")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert service.end()[0] == 0


def test_a_second_signal_stops_immediately(serve):
    service = serve("--preload", "echo")
    with service.chat("forever slow", stream=True) as response:
        response.readline()
        service.process.send_signal(signal.SIGINT)
        assert service.process.stderr.readline().startswith("Stopping. Running requests have ")
        code, _, err = service.end(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err


def test_it_preloads_before_it_is_ready_and_survives_models_that_cannot_be_loaded(serve, machine):
    machine.config.write_text('[models]\npreload = ["nothing-of-the-kind", "echo"]\n')
    service = serve("--preload", "unreachable")
    code, _, err = service.end(signal.SIGTERM)
    assert code == 0
    problems = [line for line in err.splitlines() if line.startswith("Cannot preload ")]
    assert len(problems) == 2
    assert "nothing-of-the-kind" in problems[0]
    assert "the shelf is too high" in problems[1]


def test_a_port_in_use_is_reported_in_one_sentence(machine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = machine.run("serve", "--port", port)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: Port {port} ")
    assert result.stderr.count("\n") == 1


def test_options_take_precedence_over_other_settings(machine):
    machine.config.write_text("[server]\nport = 1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = machine.run("--set", "server.port=2", "serve", "--port", port, CUPOLA_SERVER_PORT="3")
    assert f"Port {port} " in result.stderr


def test_an_address_that_other_machines_can_reach_is_rejected(machine):
    result = machine.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (result.returncode, result.stdout) == (1, "")
    assert "0.0.0.0" in result.stderr


def test_a_shutdown_over_http_ends_the_process_in_order(serve):
    service = serve()
    with urllib.request.urlopen(f"{service.url}/openai/status", timeout=30) as reply:
        assert json.load(reply)["endpoints"] == [service.url]
    with service.chat("a slow", stream=True) as response:
        response.readline()
        request = urllib.request.Request(f"{service.url}/shutdown", method="POST")
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert json.load(reply) == {"status": "shutting_down"}
        assert response.read().endswith(b"data: [DONE]\n\n")
    code, _, err = service.end()
    assert code == 0
    assert "Traceback" not in err


def test_the_fallback_answers_if_no_provider_runs_a_model_and_its_key_is_not_revealed(machine):
    machine.run("model", "download", "echo")
    with StandIn() as cloud:
        machine.config.write_text(
            f'[external.cloud]\nbase_url = "{cloud.url}"\nmodels = ["big"]\napi_key_env = "CLOUD"'
        )
        words = ("--set", 'plugins.disabled=["starter", "cpu", "echo"]', "serve", "--port", "0", "--fallback", "big")
        process = machine.start(*words, env={**os.environ, **machine.environment, "CLOUD": KEY})
        try:
            url = process.stdout.readline().split()[-1]
            body = {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]}
            request = urllib.request.Request(
                f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as reply:
                assert json.load(reply)["model"] == "cloud/big"
            assert cloud.asked[0][1]["authorization"] == f"Bearer {KEY}"
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
    assert KEY not in out + err
