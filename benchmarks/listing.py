"""How fast a large catalog is listed: warm in an engine, and cold by `cupola model list` from the cached listing.

`python -m benchmarks.listing [--variants N] [--rounds N] [--smoke]`. A catalog on loopback serves the variants once and
is stopped before anything is measured, so that every listing comes from the snapshot in the cache folder, as it does
offline. A cold start is a whole process from its start to its end, with the plugins that are installed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from benchmarks.harness import build_parser, finish, metered, run_interleaved
from benchmarks.peers.loopback_catalog import GALLERY_PATH, build_entity, loopback_catalog
from cupola import load_settings
from cupola.engine import open_engine
from cupola_server.bench.statistics import Figure

_WARM_LISTINGS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed, except in smoke runs."""
    parser = build_parser(__doc__, rounds=9, model=False)
    parser.add_argument("--variants", type=int, default=5000)
    options = parser.parse_args(arguments)
    if options.smoke:
        options.rounds = 1
    with tempfile.TemporaryDirectory() as cache, metered() as meter:
        figures = _measure(Path(cache), options)
    checks = [
        ("a warm listing under 100 ms", figures["warm, engine"].median < 100),
        ("a cold `model list` under 500 ms", figures["cold, model list"].median < 500),
    ]
    title = f"{options.variants} variants"
    return finish("listing", title, figures, checks, meter=meter, smoke=options.smoke, variants=options.variants)


def _measure(cache: Path, options: argparse.Namespace) -> dict[str, Figure]:
    with loopback_catalog([_build_variant(number) for number in range(options.variants)]) as url:
        environment = {
            "CUPOLA_CACHE_DIR": str(cache),
            "CUPOLA_AZURE_ENABLED": "true",
            "CUPOLA_AZURE_CATALOG_URL": url + GALLERY_PATH,
            "CUPOLA_AZURE_REGISTRY_URL": url,
        }
        listed = json.loads(_run(environment, "model", "list", "--output", "json"))
    assert len(listed) >= options.variants, f"{len(listed)} variants were listed"
    values = run_interleaved(
        options.rounds,
        {
            "warm, engine": lambda: anyio.run(_warm_ms, environment, options.variants),
            "cold, model list": lambda: _cold_ms(environment, "model", "list"),
            "cold, model list as JSON": lambda: _cold_ms(environment, "model", "list", "--output", "json"),
            "cold, --version": lambda: _cold_ms(environment, "--version"),
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


def _build_variant(number: int) -> dict[str, Any]:
    """Build the record of one of five variants of a model."""
    suffix = ("generic-cpu", "a-cpu", "b-cpu", "c-cpu", "d-cpu")[number % 5]
    alias = f"family-{number // 5}"
    tags = {
        "licenseDescription": "This model is provided under the License text available at its page.",
        "supportsToolCalling": "true",
        "promptTemplate": json.dumps({"prompt": "<|user|>\n{Content}<|end|>\n<|assistant|>"}),
    }
    return build_entity(f"{alias}-instruct-{suffix}", alias, 1_000_000 * number, version=number % 7 + 1, tags=tags)


if __name__ == "__main__":
    raise SystemExit(main())
