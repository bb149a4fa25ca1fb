"""Writes the tables of `benchmarks/README.md`, and pages with charts, from the files under `benchmarks/results/`.

`python -m benchmarks.report [--check]`. Files of `cupola bench --save` are shown as it shows
them. Figures in the README come from nowhere else; a test runs the check.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measuring import RESULTS
from cupola_server.bench.markdown import markdown
from cupola_server.bench.page import page
from cupola_server.bench.results import Result

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: written by python -m benchmarks.report -->", "<!-- end of results -->"
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
        if _is_comparison(result := json.loads(file.read_text("utf-8"))):
            file.with_suffix(".html").write_text(page(msgspec.convert(result, Result, strict=False)), "utf-8")


def with_results(text: str, files: Iterable[Path]) -> str:
    """Return the README with the section of these result files in place of the one it has."""
    head, found, rest = text.partition(BEGIN)
    _, found_end, tail = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"{README.name} has lost its marks {BEGIN!r} and {END!r}; put them back")
    sections = [section(file.stem, json.loads(file.read_text("utf-8"))) for file in files]
    return "\n".join([head + BEGIN, "", *sections, END]) + tail


def section(name: str, result: dict[str, Any]) -> str:
    """Return one result file as Markdown: where and when, what was met, every figure with its spread."""
    if _is_comparison(result):
        return f"### {name}\n\n{_comparison(name, result)}"
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


def _comparison(name: str, result: dict[str, Any]) -> str:
    """Return a result of `cupola bench`, with a link to its charts if they are stored beside it."""
    return f"[The charts](results/{name}.html).\n\n{markdown(msgspec.convert(result, Result, strict=False))}"


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
