"""`cupola bench` with the starter model and each peer still runs; the figures are not checked, only that they exist."""

import json
import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from cupola_server.bench.adapters import environment_path, find_adapters

SHARED = Path(platformdirs.user_cache_dir("cupola-tests", appauthor=False))
ANYHOW = ("--noise-bound", "99", "--slow-bound", "99")
SMALL = (
    "--streams",
    "1,3",
    "--prompt-tokens",
    "64,128",
    "--new-tokens",
    "8",
    "--rounds",
    "1",
    "--noise-bound",
    "99",
    "--slow-bound",
    "99",
)


def run_bench(cache, file, *words):
    run = subprocess.run(
        [sys.executable, "-m", "cupola_server.cli", "bench", "smollm2-135m", *SMALL, "--save", str(file), *words],
        env={**os.environ, "CUPOLA_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(SHARED)},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(file.read_text())


def cells_of(result, name):
    (target,) = [target for target in result["targets"] if target["name"] == name]
    return {(cell["kind"], cell["streams"], cell["prompt_tokens"]): cell for cell in target["cells"]}, target


def test_the_service_the_engine_and_the_baseline_are_measured_alike(starter_settings, tmp_path):
    words = ("--peer", "raw-genai", "--html", str(tmp_path / "a.html"))
    result = run_bench(starter_settings.cache_dir, tmp_path / "a.json", *words)
    for name in ("in-process", "http", "raw-genai"):
        cells, target = cells_of(result, name)
        assert cells["decode", 1, 64]["got_tokens"] == cells["decode", 1, 64]["asked_tokens"] == 48
        assert set(cells["decode", 1, 64]["samples"][0]["values"]) >= {"decode_per_s", "ttft_ms", "cpu_ms_per_token"}
        assert target["peak_bytes"][0] > 100_000_000
    cells, target = cells_of(result, "in-process")
    assert cells["decode", 3, 64]["got_tokens"] == 48
    assert cells["repeat", 1, 128]["samples"][0]["values"]["again"] < 1
    assert 1 < target["quality"]["perplexity"] < 200
    assert target["quality"]["divergence"] == 0.0
    assert result["skipped"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the peers' wheels for Linux are what is tested")
@pytest.mark.timeout(400)
def test_peers_respond_to_the_same_prompts_with_the_same_number_of_tokens(starter_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(SHARED))
    names = ["llama-cpp", "foundry-local-2-tuned"]
    (heavy,) = [adapter for adapter in find_adapters() if adapter.name == "foundry-local-1"]
    if (environment_path(heavy) / "whole").exists():  # it takes 400 MB, so it is not installed for a test
        names.append("foundry-local-1-tuned")
    words = [word for name in names for word in ("--peer", name)]
    words += ["--way", "http", "--no-quality", "--streams", "3", "--prompt-tokens", "64", "--new-tokens", "4"]
    result = run_bench(starter_settings.cache_dir, tmp_path / "b.json", *words)
    installed = [name for name in names if name not in {skipped["name"] for skipped in result["skipped"]}]
    for skipped in result["skipped"]:
        assert "cannot be installed" in skipped["reason"]
    for name in installed:
        cells, target = cells_of(result, name)
        assert cells["decode", 3, 64]["got_tokens"] == cells["decode", 3, 64]["asked_tokens"] == 24, name
        assert target["versions"]
