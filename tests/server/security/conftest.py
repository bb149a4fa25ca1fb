"""A service in a process of its own, with a scripted engine, to be ill-treated."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
FOREVER = {"model": "tiny", "messages": [{"role": "user", "content": "forever"}], "stream": True}


class Victim:
    """The process, and ways to reach it."""

    def __init__(self, **settings):
        variables = {f"CUPOLA_SERVER_{name.upper()}": str(value) for name, value in settings.items()}
        tests = Path(__file__).parents[2]
        paths = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("victim.py"))],
            env={**os.environ, "PYTHONPATH": paths, "CUPOLA_SERVER_PORT": "0", **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = re.search(r"http://\S+", self.process.stdout.readline()).group()
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(base_url=self.url, timeout=20)

    def connect(self, sent=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(sent)
        return connection

    def chat(self):
        """Answer as always: what every test asks for in the end."""
        reply = self.http.post("/v1/chat/completions", json=CHAT)
        return reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"] == "Hello, world"

    @property
    def in_flight(self):
        """Requests that run beside the one which asks."""
        text = self.http.get("/metrics").text
        return int(float(re.search(r"^cupola_http_requests_in_flight (.*)$", text, re.MULTILINE).group(1))) - 1

    @property
    def connections(self):
        return len([c for c in psutil.Process(self.process.pid).net_connections() if c.status == "ESTABLISHED"])

    @property
    def memory_mb(self):
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def stop(self):
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture
def start_victim():
    victims = []

    def start(**settings):
        victims.append(Victim(**settings))
        return victims[-1]

    yield start
    for victim in victims:
        assert victim.stop() == 0


@pytest.fixture(scope="module")
def victim():
    victim = Victim(body_timeout_s=5, idle_timeout_s=20)
    yield victim
    assert victim.chat()
    assert victim.stop() == 0
