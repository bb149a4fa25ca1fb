"""Writes the tables of `benchmarks/README.md`, and pages with charts, from the files under `benchmarks/results/`.

`python -m benchmarks.report [--check]`. Files of `cupola bench --save` are rendered as by that command. All figures
in the README come from result files; a test runs the check.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS_FOLDER
from cupola_server.bench.comparison import compare_results
from cupola_server.bench.markdown import render_markdown
from cupola_server.bench.page import render_page
from cupola_server.bench.results import read_result
from cupola_server.bench.statistics import format_number

README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- results: written by python -m benchmarks.report -->", "<!-- end of results -->"
_SECOND_RUN = "-again"
"""Suffix of the name of a second run, of which only the differences from the first one are shown."""

_SECTION_KEYS = {"machine", "figures", "checks"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the results in the README, or check them; returns 1 if a check finds that they are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the README is out of date")
    options = parser.parse_args(arguments)
    if not options.check:
        _write_pages()
    before = README.read_text("utf-8")
    after = replace_results(before, sorted(RESULTS_FOLDER.glob("*.json")))
    if before == after:
        return 0
    if options.check:
        print("benchmarks/README.md does not show the stored results. Run: python -m benchmarks.report")
        return 1
    README.write_text(after, "utf-8")
    return 0


def _write_pages() -> None:
    """Write the HTML page beside every result of `cupola bench`."""
    for file in sorted(RESULTS_FOLDER.glob("*.json")):
        if _is_benchmark(json.loads(file.read_text("utf-8"))) and not file.stem.endswith(_SECOND_RUN):
            file.with_suffix(".html").write_text(render_page(read_result(file)), "utf-8")


def replace_results(text: str, files: Iterable[Path]) -> str:
    """Return the README with the sections of these result files in place of those it has."""
    head, found, rest = text.partition(_BEGIN)
    _, found_end, tail = rest.partition(_END)
    if not (found and found_end):
        raise ValueError(f"{README.name} lacks the marks {_BEGIN!r} and {_END!r}. Add them around the results")
    sections = [render_section(file) for file in files]
    return "\n".join([head + _BEGIN, "", *sections, _END]) + tail


def render_section(file: Path) -> str:
    """Return one result file as Markdown: the machine, all figures with their range, and the checks."""
    name, result = file.stem, json.loads(file.read_text("utf-8"))
    if _is_benchmark(result):
        first = file.with_stem(name.removesuffix(_SECOND_RUN))
        return f"### {name}\n\n{_render_benchmark(file) if first == file else _render_second_run(first, file)}"
    lines = [f"### {name}", "", _format_machine(result["machine"]), ""]
    settings = ", ".join(
        f"{key.replace('_', ' ')} {_format_setting(result[key])}" for key in result if key not in _SECTION_KEYS
    )
    lines += [f"{settings}.", ""] if settings else []
    lines += ["| figure | median | from | to | unit |", "|---|---:|---:|---:|---|"]
    for title, figure in result["figures"].items():
        low, high = min(figure["values"]), max(figure["values"])
        lines.append(f"| {title} | {figure['median']:.4g} | {low:.4g} | {high:.4g} | {figure['unit']} |")
    lines += ["", *(f"- {'met' if check['met'] else '**missed**'}: {check['what']}" for check in result["checks"])]
    return "\n".join(lines).rstrip() + "\n"


def _is_benchmark(result: dict[str, Any]) -> bool:
    return str(result.get("format", "")).startswith("cupola-bench/")


def _render_benchmark(file: Path) -> str:
    """Return a result of `cupola bench` with a link to its page."""
    return f"[The charts](results/{file.stem}.html).\n\n{render_markdown(read_result(file))}"


def _render_second_run(first: Path, second: Path) -> str:
    """Return how the figures of a second run agree with the intervals of the first one."""
    result = read_result(second)
    changes = compare_results(read_result(first), result)
    outside = [change for change in changes if not change.within_spread]
    lines = [
        f"A second run, {result.machine.when[:16].replace('T', ' ')} UTC: {len(changes) - len(outside)} of "
        f"{len(changes)} figures lie within the ± of the first run, where 19 of 20 are expected. The others:",
        "",
        "| | | first | again | times |",
        "|---|---|---:|---:|---:|",
    ]
    for change in outside:
        before = f"{format_number(change.before.median)} ±{100 * change.before.spread:.0f}%"
        after = format_number(change.after.median)
        lines.append(f"| {change.target} | {change.what} | {before} | {after} | {change.ratio:.3f} |")
    return "\n".join(lines) + "\n"


def _format_machine(machine: dict[str, Any]) -> str:
    packages = machine["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("cupola", "onnxruntime", "onnxruntime-genai"))
    when, memory = machine["when"][:10], machine["memory_bytes"] / 1e9
    return (
        f"{when}, {machine['processor']}, {machine['cores']} cores, {memory:.0f} GB, Python {machine['python']}, "
        f"{versions}."
    )


def _format_setting(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
