"""The effect of the CPU provider's settings over HTTP: threads, spinning, and the size of prefill chunks.

`python -m benchmarks.defaults [--rounds N] [--smoke]`. There is one service per setting; all are loaded at once and
measured in turn, so that other load on the machine affects all of them alike.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.batching import ServiceLoad
from benchmarks.harness import build_parser, divide, finish, metered, run_interleaved
from benchmarks.service import ServiceProcess
from cupola import load_settings
from cupola_server.bench.statistics import Figure

SETTINGS = {
    "2 threads, spinning": {"CUPOLA_PROVIDERS_CPU_THREADS": "2"},
    "2 threads, not spinning": {"CUPOLA_PROVIDERS_CPU_THREADS": "2", "CUPOLA_PROVIDERS_CPU_SPINNING": "false"},
    "1 thread": {"CUPOLA_PROVIDERS_CPU_THREADS": "1"},
    "2 threads, chunks of 128": {"CUPOLA_PROVIDERS_CPU_THREADS": "2", "CUPOLA_WORKER_PREFILL_CHUNK": "128"},
    "2 threads, chunks of 512": {"CUPOLA_PROVIDERS_CPU_THREADS": "2", "CUPOLA_WORKER_PREFILL_CHUNK": "512"},
}
"""Environment variables by title. The first is the default on a machine with two cores, the base of all ratios."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; a smoke run measures only two settings."""
    options = build_parser(__doc__, rounds=5).parse_args(arguments)
    titles = list(SETTINGS)[: 2 if options.smoke else None]
    new_tokens, long_prompt = (8, 200) if options.smoke else (64, 2000)
    cache = load_settings().cache_dir
    with metered() as meter, ExitStack() as stack:
        tasks: dict[str, Callable[[], float]] = {}
        for title in titles:
            service = stack.enter_context(ServiceProcess(cache, options.model, **SETTINGS[title]))
            load = ServiceLoad(service, new_tokens=new_tokens, long_prompt=long_prompt)
            tasks |= {
                f"1 stream: {title}": load.decode_per_s,
                f"8 streams: {title}": partial(load.total_per_s, 8),
                f"prefill: {title}": load.prefill_per_s,
                f"one-token requests: {title}": partial(load.requests_per_s, 8),
            }
        values = run_interleaved(1 if options.smoke else options.rounds, tasks, pause_s=0.5)
    figures = {name: Figure("per s", tuple(found)) for name, found in values.items()}
    for name in list(figures):
        what, _, title = name.partition(": ")
        if title != titles[0]:
            figures[f"{name} / default"] = divide(figures[name], figures[f"{what}: {titles[0]}"])
    title = "settings of the CPU provider over HTTP"
    return finish("defaults", title, figures, [], meter=meter, smoke=options.smoke, model=options.model)


if __name__ == "__main__":
    raise SystemExit(main())
