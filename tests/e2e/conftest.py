"""A whole service in a process of its own: `cupola serve` with the starter model."""

import os
import re
import signal
import subprocess
import sys

import openai
import psutil
import pytest


class Service:
    """`cupola serve` on a free port, as a user starts it."""

    def __init__(self, settings, log, **variables):
        environment = {"CUPOLA_CACHE_DIR": str(settings.cache_dir), **variables}
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cupola_server.cli", "serve", "--port", "0"],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.url = re.search(r"http://\S+", line).group()

        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    @property
    def workers(self):
        return [p for p in psutil.Process(self.process.pid).children() if p.status() != psutil.STATUS_ZOMBIE]

    def stop(self):
        self.openai.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture(scope="module")
def service(starter_settings, tmp_path_factory):
    service = Service(starter_settings, tmp_path_factory.mktemp("service") / "log")
    yield service
    assert service.stop() == 0, service.log.read_text()


@pytest.fixture
def start_service(starter_settings, tmp_path):
    started = []

    def start(**variables):
        started.append(Service(starter_settings, tmp_path / f"log{len(started)}", **variables))
        return started[-1]

    yield start
    for service in started:
        service.stop()
