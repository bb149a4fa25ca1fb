"""A whole service over tiny models: `cupola serve`, every front-end that is installed, real workers."""

import os
import subprocess
import sys
from dataclasses import dataclass

import anyio
import httpx
import pytest

from cupola.frontend import ModelInfo
from cupola_plugins.filesystem import FilesystemCache
from tiny_embedder import write_tiny_embedder
from tiny_model import write_tiny_model

CONTEXT = 160
TINY = ModelInfo(
    id="tiny-generic-cpu:1", alias="tiny", source="tests", publisher="Tests", size_bytes=1, context_length=CONTEXT
)
EMBEDDER = ModelInfo(
    id="embedder-generic-cpu:1", alias="embedder", source="tests", publisher="Tests", size_bytes=1, task="embeddings"
)


@dataclass
class Service:
    """The service, and how to reach it."""

    process: subprocess.Popen
    url: str
    log: object

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture(scope="package")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    anyio.run(_fill, folder / "cache")
    (folder / "config.toml").touch()
    settings = {
        "CONFIG": folder / "config.toml",
        "CACHE_DIR": folder / "cache",
        "RESPONSES_DIR": folder / "responses",
        "RESPONSES_MAX_STORED": 50,
        "PLUGINS_DISABLED": '["starter", "azure"]',  # nothing is to be downloaded, whatever is asked for
    }
    log = folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "cupola_server.cli", "serve", "--port", "0"],
            env={**os.environ, **{f"CUPOLA_{name}": str(value) for name, value in settings.items()}},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    line = process.stdout.readline()
    assert line, log.read_text()
    service = Service(process, line.split()[-1], log)
    yield service
    assert httpx.get(f"{service.url}/readyz").status_code == 200, log.read_text()
    assert service.stop() == 0, log.read_text()
    assert "Traceback" not in log.read_text()


async def _fill(cache):
    store = FilesystemCache(cache)
    async with await store.reserve(TINY) as staging:
        write_tiny_model(staging.path, context=CONTEXT)
        await staging.commit()
    async with await store.reserve(EMBEDDER) as staging:
        write_tiny_embedder(staging.path)
        await staging.commit()
