"""`cupola bench` in its own process, with a model that answers immediately."""

import json
import sys

import psutil
import pytest

ADAPTER = """# /// script
# [tool.cupola-peer]
# title = "Quick"
# own-interpreter = true
# speaks = "lines"
# ///
import json, sys
print(json.dumps({"load_s": 0.1}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"times": [0.001 * n for n in range(1, asked["new_tokens"] + 1)]}), flush=True)
"""
ANYHOW = ("--noise-bound", "99", "--slow-bound", "99")
SMALL = (
    "--streams",
    "1,2",
    "--prompt-tokens",
    "200,400",
    "--new-tokens",
    "4",
    "--noise-bound",
    "99",
    "--slow-bound",
    "99",
)


def test_a_run_is_stored_shown_again_and_compared(machine, tmp_path):
    file, html = tmp_path / "run.json", tmp_path / "run.html"
    adapter = tmp_path / "quick.py"
    adapter.write_text(ADAPTER)
    words = ("bench", *SMALL, "--peer", str(adapter), "--rounds", "2", "--save", str(file), "--html", str(html))
    first = machine.run(*words)
    assert first.returncode == 0, first.stderr
    assert "Cupola over HTTP" in first.stdout
    stored = json.loads(file.read_text())
    assert [target["name"] for target in stored["targets"]] == ["in-process", "http", "quick"]
    assert stored["machine"]["versions"]["cupola"]
    assert len(stored["targets"][0]["model_digest"]) == 64
    for target in stored["targets"]:
        (alone,) = [cell for cell in target["cells"] if (cell["kind"], cell["streams"]) == ("decode", 1)]
        assert len(alone["samples"]) == 2
        assert (alone["asked_tokens"], alone["got_tokens"]) == (48, 48)  # 2 rounds of 6 answers of 4 tokens
        assert alone["samples"][0]["values"]["cpu_ms_per_token"] >= 0
    together = [cell for cell in stored["targets"][2]["cells"] if cell["kind"] == "decode" and cell["streams"] == 2]
    assert together[0]["problem"] == "it handles only 1 at a time"
    assert html.read_text().startswith("<!doctype html>")

    more = machine.run(*words[:-2], "--output", "json")
    assert more.returncode == 0, more.stderr
    assert len(json.loads(more.stdout)["targets"][1]["cells"][0]["samples"]) == 4

    shown = machine.run("bench", "report", str(file), "--output", "markdown")
    assert "| Cupola in process |" in shown.stdout
    same = machine.run("bench", "compare", str(file), str(file), "--threshold", "1")
    assert same.returncode == 0, same.stderr
    assert "medians lie within the spread" in same.stdout


def test_a_slower_result_fails_a_comparison_with_a_threshold(machine, tmp_path):
    file, slower = tmp_path / "a.json", tmp_path / "b.json"
    run = machine.run("bench", *SMALL, "--way", "in-process", "--rounds", "1", "--no-quality", "--save", str(file))
    assert run.returncode == 0, run.stderr
    result = json.loads(file.read_text())
    for cell in result["targets"][0]["cells"]:
        for sample in cell["samples"]:
            sample["values"] = {name: value / 2 for name, value in sample["values"].items() if name.endswith("per_s")}
    slower.write_text(json.dumps(result))
    failed = machine.run("bench", "compare", str(file), str(slower), "--threshold", "20")
    assert failed.returncode == 1
    assert "metrics are worse by more than 20 %" in failed.stderr
    assert "Cupola in process: Speed: 2 at a time" in failed.stderr
    assert machine.run("bench", "compare", str(file), str(slower)).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_sigterm_leaves_no_process_behind(machine):
    process = machine.start("bench", *SMALL, "--rounds", "999")
    seen = next(line for line in process.stderr if line.startswith("Measure"))
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2, seen  # a worker, and the service
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_what_cannot_be_measured_is_skipped_with_its_reason(machine, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text(ADAPTER.partition("import json")[0] + "import sys\nsys.exit('it needs another machine')\n")
    run = machine.run(
        "bench", *SMALL, "--way", "in-process", "--rounds", "1", "--no-quality", "--peer", str(broken),
        "--peer-command", f"{sys.executable} -c exit(3)", "--peer", "http://127.0.0.1:9/v1",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (
        "Not measured: broken. broken cannot be measured: its process ended. Its error output: it needs another"
        in run.stdout
    )
    assert run.stdout.count("Not measured:") == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--streams", "0"), "is not a list of positive integers"),
        (("--streams", "one"), "is not a list of positive integers"),
        (("--peer", "nobody"), "Unknown peer 'nobody'. Available: "),
        (("no-such-model",), "no-such-model"),
        (("compare", "missing.json", "missing.json"), "cannot be read"),
        (("report", "missing.json"), "cannot be read"),
        (("--prompt-tokens", "4"), "A prompt of 4 tokens is too short"),
    ],
)
def test_wrong_usage_is_reported_in_one_sentence(machine, words, sentence):
    run = machine.run("bench", *words)
    assert run.returncode in {1, 2}
    assert sentence in " ".join(run.stderr.split())


def test_help_shows_the_options_and_the_other_commands(machine):
    shown = machine.run("bench", "--help").stdout
    assert "--peer-command" in shown
    assert "cupola bench compare A.json B.json" in " ".join(shown.split())


def test_growth_is_measured_fitted_and_reported(machine, tmp_path):
    file = tmp_path / "curves.json"
    words = ("--rounds", "0", "--curve", "prompts", "--curve", "streams", "--curve", "residents", "--save", str(file))
    run = machine.run("bench", *SMALL, *words)
    assert run.returncode == 0, run.stderr
    curves = {(curve["over"], curve["what"]): curve for curve in json.loads(file.read_text())["curves"]}
    assert ("prompt tokens", "time to first token") in curves
    assert [point["x"] for point in curves["streams", "tokens per second of all"]["points"]] == [1, 2, 4, 8, 16, 32]
    memory = curves["resident models", "memory"]
    assert [point["x"] for point in memory["points"]] == [1, 2, 3, 4, 6, 8]
    assert 0.9 < memory["exponent"] < 1.1
    assert "to the power of" in run.stdout
