"""Every benchmark runs; its figures are not checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("*.py") if "[--smoke]" in path.read_text("utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_runs(module, starter_settings):
    run = subprocess.run(
        [sys.executable, "-m", module, "--smoke"],
        cwd=ROOT,
        env={**os.environ, "CUPOLA_CACHE_DIR": str(starter_settings.cache_dir)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
