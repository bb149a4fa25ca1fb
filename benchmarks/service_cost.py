"""What the service costs: one stream through HTTP against the bare `og.Generator` loop, on the same model.

`python -m benchmarks.service_cost [--rounds N] [--new-tokens N] [--smoke]`. Both run interleaved on the same cores,
with the load client beside them; every figure is a median over the rounds, every ratio is taken round by round.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import psutil

from benchmarks.baselines.process import Floor
from benchmarks.harness import Figure, folder_of, interleaved, neighbours, ratio, save, show
from benchmarks.service import Served
from cupola import Settings, load_settings

SHORT_WORDS = 3
"""Makes a prompt of 20 tokens with the starter model's template."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed and this was no smoke run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--smoke", action="store_true", help="one quick round, no result file, no verdict")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.rounds, options.new_tokens = 1, 16
    settings = load_settings()
    folder = anyio.run(folder_of, settings, options.model)
    threads = psutil.cpu_count(logical=False) or 1
    with neighbours() as busy:
        figures, prompt_tokens = _measure(settings, options, folder, threads)
    checks = [
        ("through HTTP at least 0.90 of raw decode", figures["decode, HTTP / raw"].median >= 0.90),
        ("TTFT through HTTP at most 1.5 of raw", figures["TTFT, HTTP / raw"].median <= 1.5),
    ]
    show(f"one stream, {prompt_tokens}-token prompt", figures, checks, busy[0])
    if options.smoke:
        return 0
    extra = {"model": options.model, "threads": threads, "prompt_tokens": prompt_tokens, "others_cores": busy[0]}
    save("service_cost", figures, checks, **extra, new_tokens=options.new_tokens)
    return 0 if all(met for _, met in checks) else 1


def _measure(
    settings: Settings, options: argparse.Namespace, folder: Path, threads: int
) -> tuple[dict[str, Figure], int]:
    floor = Floor("benchmarks.baselines.raw_generator", str(folder), str(threads))
    with floor as raw, Served(settings.cache_dir, options.model) as served:
        prompt_tokens = served.stream(served.messages(SHORT_WORDS), 1).prompt_tokens
        values = interleaved(
            options.rounds,
            {
                "raw decode": lambda: raw.run(prompt_tokens=prompt_tokens, new_tokens=options.new_tokens)[
                    "decode_per_s"
                ],
                "HTTP decode": lambda: served.stream(served.messages(SHORT_WORDS), options.new_tokens).decode_per_s,
                "raw TTFT": lambda: _usual_ms(lambda: raw.run(prompt_tokens=prompt_tokens, new_tokens=2)["ttft_s"]),
                "HTTP TTFT": lambda: _usual_ms(lambda: served.stream(served.messages(SHORT_WORDS), 2).ttft_s),
            },
        )
    units = {"decode": "tokens/s", "TTFT": "ms"}
    figures = {name: Figure(units[name.split()[1]], tuple(found)) for name, found in values.items()}
    figures["decode, HTTP / raw"] = ratio(figures["HTTP decode"], figures["raw decode"])
    figures["TTFT, HTTP / raw"] = ratio(figures["HTTP TTFT"], figures["raw TTFT"])
    return figures, prompt_tokens


def _usual_ms(once: Callable[[], float]) -> float:
    """Return the median of a few times that follow each other: the first one alone would be that of cold caches."""
    return 1000 * statistics.median(once() for _ in range(5))


if __name__ == "__main__":
    raise SystemExit(main())
