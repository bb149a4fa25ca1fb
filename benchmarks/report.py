"""Writes the tables of `benchmarks/README.md`, and pages with charts, from the files under `benchmarks/results/`.

`python -m benchmarks.report [--check]`. Files of `cupola bench --save` are shown as it shows
them. Figures in the README come from nowhere else; a test runs the check.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from cupola_server.bench.comparison import changes
from cupola_server.bench.markdown import markdown
from cupola_server.bench.page import page
from cupola_server.bench.results import read
from cupola_server.bench.statistics import number

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: written by python -m benchmarks.report -->", "<!-- end of results -->"
_AGAIN = "-again"
"""Ending of the name of a second run, which is shown beside the first one only where it differs."""

_SECTION_KEYS = {"machine", "figures", "checks"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the section, or tell whether it is up to date; returns 1 if a check finds that it is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the README is out of date")
    options = parser.parse_args(arguments)
    if not options.check:
        _draw()
    before = README.read_text("utf-8")
    after = with_results(before, sorted(RESULTS.glob("*.json")))
    if before == after:
        return 0
    if options.check:
        print("benchmarks/README.md does not show the stored results. Run: python -m benchmarks.report")
        return 1
    README.write_text(after, "utf-8")
    return 0


def _draw() -> None:
    """Write the page with charts beside every result of `cupola bench`."""
    for file in sorted(RESULTS.glob("*.json")):
        if _is_comparison(json.loads(file.read_text("utf-8"))) and not file.stem.endswith(_AGAIN):
            file.with_suffix(".html").write_text(page(read(file)), "utf-8")


def with_results(text: str, files: Iterable[Path]) -> str:
    """Return the README with the section of these result files in place of the one it has."""
    head, found, rest = text.partition(BEGIN)
    _, found_end, tail = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"{README.name} has lost its marks {BEGIN!r} and {END!r}; put them back")
    sections = [section(file) for file in files]
    return "\n".join([head + BEGIN, "", *sections, END]) + tail


def section(file: Path) -> str:
    """Return one result file as Markdown: where and when, what was met, every figure with its spread."""
    name, result = file.stem, json.loads(file.read_text("utf-8"))
    if _is_comparison(result):
        first = file.with_stem(name.removesuffix(_AGAIN))
        return f"### {name}\n\n{_comparison(file) if first == file else _repeated(first, file)}"
    lines = [f"### {name}", "", _where(result["machine"]), ""]
    settings = ", ".join(f"{key.replace('_', ' ')} {_text(result[key])}" for key in result if key not in _SECTION_KEYS)
    lines += [f"{settings}.", ""] if settings else []
    lines += ["| figure | median | from | to | unit |", "|---|---:|---:|---:|---|"]
    for title, figure in result["figures"].items():
        low, high = min(figure["values"]), max(figure["values"])
        lines.append(f"| {title} | {figure['median']:.4g} | {low:.4g} | {high:.4g} | {figure['unit']} |")
    lines += ["", *(f"- {'met' if check['met'] else '**missed**'}: {check['what']}" for check in result["checks"])]
    return "\n".join(lines).rstrip() + "\n"


def _is_comparison(result: dict[str, Any]) -> bool:
    return str(result.get("format", "")).startswith("cupola-bench/")


def _comparison(file: Path) -> str:
    """Return a result of `cupola bench`, with a link to its charts."""
    return f"[The charts](results/{file.stem}.html).\n\n{markdown(read(file))}"


def _repeated(first: Path, second: Path) -> str:
    """Say how a second run of the same agrees with the first one."""
    again = read(second)
    found = changes(read(first), again)
    outside = [one for one in found if not one.within_spread]
    lines = [
        f"The same again, {again.machine.when[:16].replace('T', ' ')} UTC: {len(found) - len(outside)} of "
        f"{len(found)} figures lie where the first run's ± lets one expect nineteen of twenty. The others:",
        "",
        "| | | first | again | times |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {one.target} | {one.what} | {number(one.before.median)} ±{100 * one.before.spread:.0f}% | "
        f"{number(one.after.median)} | {one.times:.3f} |"
        for one in outside
    ]
    return "\n".join(lines) + "\n"


def _where(machine: dict[str, Any]) -> str:
    packages = machine["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("cupola", "onnxruntime", "onnxruntime-genai"))
    when, memory = machine["when"][:10], machine["memory_bytes"] / 1e9
    return (
        f"{when}, {machine['processor']}, {machine['cores']} cores, {memory:.0f} GB, Python {machine['python']}, "
        f"{versions}."
    )


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
