"""What a service survives: its workers killed, itself killed, a port that is taken."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import openai
import psutil
import pytest

from .test_chat import MODEL, STORY, SUM


def test_a_worker_killed_in_mid_answer_costs_that_answer_alone(start_service):
    service = start_service()
    client = service.openai
    stream = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=2000, stream=True)
    next(iter(stream))
    (worker,) = service.workers
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="next request starts a new worker"):
        list(stream)
    assert client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=2).choices
    assert service.workers[0].pid != worker.pid


def test_no_worker_outlives_a_service_that_was_killed(start_service):
    service = start_service()
    stream = service.openai.chat.completions.create(model=MODEL, messages=STORY, max_tokens=2000, stream=True)
    next(iter(stream))
    workers = service.workers
    assert workers
    service.process.kill()
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def test_sigterm_lets_running_answers_end_and_leaves_no_process(start_service):
    service = start_service()
    stream = service.openai.chat.completions.create(model=MODEL, messages=STORY, max_tokens=60, stream=True)
    next(iter(stream))
    workers = service.workers
    service.process.send_signal(signal.SIGTERM)
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"
    assert service.process.wait(timeout=15) == 0
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def test_an_idle_model_is_unloaded_and_loaded_again(start_service):
    service = start_service(CUPOLA_MODELS_TTL_S="0.2")
    client = service.openai
    client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=2)
    workers = service.workers
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=2).choices


def test_a_port_in_use_is_one_clear_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "cupola_server.cli", "serve", "--port", str(port)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert str(port) in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.count("\n") <= 2


def test_the_server_listens_on_this_machine_only(start_service):
    service = start_service()
    assert service.url.startswith("http://127.0.0.1:")
    assert httpx.get(service.url).status_code == 200
