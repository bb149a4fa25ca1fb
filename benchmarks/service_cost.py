"""The cost of the service: one stream over HTTP against the bare `og.Generator` loop on the same model.

`python -m benchmarks.service_cost [--rounds N] [--new-tokens N] [--smoke]`. Both run interleaved on the same cores, as
does the client. Each figure is a median over the rounds; each ratio is taken round by round.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import psutil

from benchmarks.baselines.process import BaselineProcess
from benchmarks.harness import build_parser, divide, download_model, finish, metered, run_interleaved
from benchmarks.service import ServiceProcess
from cupola import Settings, load_settings
from cupola_server.bench.statistics import Figure

_SHORT_WORDS = 3
"""Words of a prompt of 20 tokens in the starter model's template."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed, except in smoke runs."""
    parser = build_parser(__doc__, rounds=9)
    parser.add_argument("--new-tokens", type=int, default=128)
    options = parser.parse_args(arguments)
    if options.smoke:
        options.rounds, options.new_tokens = 1, 16
    settings = load_settings()
    folder = anyio.run(download_model, settings, options.model)
    threads = psutil.cpu_count(logical=False) or 1
    with metered() as meter:
        figures, prompt_tokens = _measure(settings, options, folder, threads)
    checks = [
        ("through HTTP at least 0.90 of raw decode", figures["decode, HTTP / raw"].median >= 0.90),
        ("TTFT through HTTP at most 1.5 of raw", figures["TTFT, HTTP / raw"].median <= 1.5),
    ]
    return finish(
        "service_cost",
        f"one stream, {prompt_tokens}-token prompt",
        figures,
        checks,
        meter=meter,
        smoke=options.smoke,
        model=options.model,
        threads=threads,
        prompt_tokens=prompt_tokens,
        new_tokens=options.new_tokens,
    )


def _measure(
    settings: Settings, options: argparse.Namespace, folder: Path, threads: int
) -> tuple[dict[str, Figure], int]:
    """Return the figures and the length of the prompt in tokens."""
    baseline = BaselineProcess("benchmarks.baselines.raw_generator", str(folder), str(threads))
    with baseline as raw, ServiceProcess(settings.cache_dir, options.model) as service:
        tokens = options.new_tokens
        prompt_tokens = service.stream(service.make_messages(_SHORT_WORDS), 1).prompt_tokens
        tasks = {
            "raw decode": lambda: raw.run(prompt_tokens=prompt_tokens, new_tokens=tokens)["decode_per_s"],
            "HTTP decode": lambda: service.stream(service.make_messages(_SHORT_WORDS), tokens).decode_per_s,
            "raw TTFT": lambda: _median_ms(lambda: raw.run(prompt_tokens=prompt_tokens, new_tokens=2)["ttft_s"]),
            "HTTP TTFT": lambda: _median_ms(lambda: service.stream(service.make_messages(_SHORT_WORDS), 2).ttft_s),
        }
        values = run_interleaved(options.rounds, tasks)
    units = {"decode": "tokens/s", "TTFT": "ms"}
    figures = {name: Figure(units[name.split()[1]], tuple(found)) for name, found in values.items()}
    figures["decode, HTTP / raw"] = divide(figures["HTTP decode"], figures["raw decode"])
    figures["TTFT, HTTP / raw"] = divide(figures["HTTP TTFT"], figures["raw TTFT"])
    return figures, prompt_tokens


def _median_ms(measure_s: Callable[[], float]) -> float:
    """Return the median of five consecutive times in milliseconds; a single one would be with cold caches."""
    return 1000 * statistics.median(measure_s() for _ in range(5))


if __name__ == "__main__":
    raise SystemExit(main())
