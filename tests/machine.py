"""A machine with two more plugins installed, for programs to find by their own means."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from cupola import load_settings
from cupola.client import Client
from cupola.discovery import ServiceFiles, ServiceInfo, find_service, is_alive
from cupola.files import hold_lock

TESTS = Path(__file__).parent
SHELF = TESTS / "server" / "cli"
ACCELERATORS = ("cuda", "directml", "openvino", "qnn", "tensorrt-rtx", "vitisai", "webgpu")


class Machine:
    """Runs `cupola` in a process of its own, with the plugins, settings and cache of this test alone."""

    def __init__(self, folder):
        self.site = folder / "site"
        self.cache = folder / "cache"
        self.extra = {}
        self.service = folder / "service"
        self.logs = folder / "logs"
        self.responses = folder / "responses"
        self.config = folder / "config.toml"
        self.config.touch()
        self.install("shelf", "shelf_plugin")
        self.install("echo", "echo_plugin")

    def install(self, name, reference, *, plugin=None):
        """Install a distribution that registers one plugin, by its own name if no other is given."""
        info = self.site / f"test_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: test-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cupola]\n{plugin or name} = {reference}\n")

    @property
    def environment(self):
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, (self.site, SHELF, TESTS))),
            "CUPOLA_CONFIG": str(self.config),
            "CUPOLA_CACHE_DIR": str(self.cache),
            "CUPOLA_SERVICE_DIR": str(self.service),
            "CUPOLA_SERVICE_LOG_DIR": str(self.logs),
            "CUPOLA_RESPONSES_DIR": str(self.responses),
            "CUPOLA_MODELS_DEFAULT": "echo",
            "TERM": "xterm",
            "CUPOLA_PLUGINS_DISABLED": json.dumps(["starter", "cpu", *ACCELERATORS]),
            **self.extra,
        }
        return {name: value for name, value in variables.items() if value is not None}

    def command(self, *words):
        return [sys.executable, "-m", "cupola_server.cli", *words]

    def run(self, *words, stdin="", **environment):
        return subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **self.environment, **environment},
        )

    def start(self, *words, **options):
        return self.popen(self.command(*words), **options)

    def popen(self, command, **options):
        """Start any program."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, **self.environment}
        return subprocess.Popen(command, **{"env": environment, **streams, **options})

    def settings(self):
        """The settings that its programs see."""
        return load_settings(environ=self.environment)

    @property
    def files(self):
        """The files of its agent."""
        return ServiceFiles.of(self.settings())

    def agent(self):
        """The agent that runs, or None."""
        return find_service(self.settings())

    def client(self):
        """A client in this process of the agent that runs."""
        return Client(self.settings(), start=False)

    def ensure(self):
        """Find or start the agent, as a program of this machine would."""
        code = "from cupola.discovery import ensure_service; from cupola import load_settings; "
        code += "print(ensure_service(load_settings()).pid)"
        return self.popen([sys.executable, "-c", code])

    def wait_for_end(self):
        """Wait until no agent runs."""
        with hold_lock(self.files.lock, timeout_s=20):
            pass

    def end(self):
        """Leave no agent behind."""
        for file in Path(self.extra.get("CUPOLA_SERVICE_DIR", self.service)).glob("*/agent.json"):
            info = msgspec.json.decode(file.read_bytes(), type=ServiceInfo)
            if is_alive(info.pid, info.born):
                os.kill(info.pid, signal.SIGKILL)
