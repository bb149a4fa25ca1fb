"""The figures of benchmarks/README.md come from the stored results."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "benchmarks" / "README.md"


def test_the_readme_shows_the_stored_results():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.report", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_result_file_has_a_section_with_its_medians():
    text = README.read_text("utf-8")
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        result = json.loads(file.read_text("utf-8"))
        assert f"### {file.stem}\n" in text
        for figure in result.get("figures", {}).values():
            assert f"| {figure['median']:.4g} |" in text
