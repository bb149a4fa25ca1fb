"""How fast a large catalog is listed: warm in an engine, and cold by `cupola model list` from the remembered listing.

`python -m benchmarks.listing [--variants N] [--rounds N] [--smoke]`. A catalog on loopback lists the variants once; it
is gone before anything is measured, so that every answer comes from the snapshot in the cache folder, as it does
offline. A cold start is a whole process, from its start to its end, with the plugins that are installed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio

from benchmarks.harness import Figure, interleaved, neighbours, save, show
from cupola import load_settings
from cupola.engine import open_engine

_WARM_LISTINGS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed and this was no smoke run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="one quick round, no result file, no verdict")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.rounds = 1
    with tempfile.TemporaryDirectory() as cache, neighbours() as busy:
        figures = _measure(Path(cache), options)
    checks = [
        ("a warm listing under 100 ms", figures["warm, engine"].median < 100),
        ("a cold `model list` under 500 ms", figures["cold, model list"].median < 500),
    ]
    show(f"{options.variants} variants", figures, checks, busy[0])
    if options.smoke:
        return 0
    save("listing", figures, checks, variants=options.variants, others_cores=busy[0])
    return 0 if all(met for _, met in checks) else 1


def _measure(cache: Path, options: argparse.Namespace) -> dict[str, Figure]:
    with _catalog(options.variants) as url:
        settings = {
            "CUPOLA_CACHE_DIR": str(cache),
            "CUPOLA_AZURE_ENABLED": "true",
            "CUPOLA_AZURE_CATALOG_URL": url,
            "CUPOLA_AZURE_REGISTRY_URL": url,
        }
        listed = json.loads(_run(settings, "model", "list", "--output", "json"))
    assert len(listed) >= options.variants, f"{len(listed)} variants were listed"
    values = interleaved(
        options.rounds,
        {
            "warm, engine": lambda: anyio.run(_warm_ms, settings, options.variants),
            "cold, model list": lambda: _cold_ms(settings, "model", "list"),
            "cold, model list as JSON": lambda: _cold_ms(settings, "model", "list", "--output", "json"),
            "cold, --version": lambda: _cold_ms(settings, "--version"),
        },
    )
    return {name: Figure("ms", tuple(found)) for name, found in values.items()}


async def _warm_ms(environment: dict[str, str], variants: int) -> float:
    async with open_engine(load_settings(environ=environment)) as engine:
        assert len(await engine.models()) >= variants
        started = time.perf_counter()
        for _ in range(_WARM_LISTINGS):
            await engine.models()
        return 1000 * (time.perf_counter() - started) / _WARM_LISTINGS


def _cold_ms(environment: dict[str, str], *words: str) -> float:
    started = time.perf_counter()
    _run(environment, *words)
    return 1000 * (time.perf_counter() - started)


def _run(environment: dict[str, str], *words: str) -> bytes:
    command = [sys.executable, "-m", "cupola_server.cli", *words]
    return subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE).stdout


@contextmanager
def _catalog(variants: int) -> Iterator[str]:
    """Serve a catalog of the second protocol that answers everything with all of its variants."""
    body = json.dumps({"value": [_entity(number) for number in range(variants)]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _entity(number: int) -> dict[str, Any]:
    name = f"family-{number // 5}-instruct-{('generic-cpu', 'a-cpu', 'b-cpu', 'c-cpu', 'd-cpu')[number % 5]}"
    parent = f"azureml://registries/azureml/models/family-{number // 5}/versions/1"
    return {
        "type": "models",
        "kind": "Versioned",
        "labels": ["latest"],
        "name": name,
        "assetId": f"azureml://registries/azureml/models/{name}/versions/{number % 7 + 1}",
        "entityId": name,
        "annotations": {
            "archived": "false",
            "tags": {
                "alias": f"family-{number // 5}",
                "task": "chat-completion",
                "license": "apache-2.0",
                "licenseDescription": "This model is provided under the License text available at its page.",
                "supportsToolCalling": "true",
                "promptTemplate": json.dumps({"prompt": "<|user|>\n{Content}<|end|>\n<|assistant|>"}),
            },
            "systemCatalogData": {
                "publisher": "Somebody",
                "displayName": name,
                "maxOutputTokens": 2048,
                "textContextWindow": 131072,
                "inferenceTasks": ["chat-completion"],
                "modelCapabilities": ["tool-calling"],
                "deploymentOptions": ["Foundry Local on Devices"],
            },
        },
        "properties": {
            "id": f"{name}:{number % 7 + 1}",
            "name": name,
            "version": number % 7 + 1,
            "creationContext": {"createdTime": "2026-06-02T07:03:01.3390586+00:00"},
            "variantInfo": {
                "parents": [{"assetId": parent}],
                "variantMetadata": {
                    "modelType": "ONNX",
                    "quantization": ["RTN"],
                    "device": "cpu",
                    "executionProvider": "CPUExecutionProvider",
                    "fileSizeBytes": 1_000_000 * number,
                    "vRamFootprintBytes": 0,
                },
            },
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
