"""Why the defaults are what they are: threads, spinning and the size of a prompt's chunks, measured through HTTP.

`python -m benchmarks.defaults [--rounds N] [--smoke]`. One service per setting, all loaded at once and asked in turn,
so that whatever else the machine does hits all of them alike.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import anyio

from benchmarks.baselines.process import Floor
from benchmarks.batching import Batching
from benchmarks.harness import Figure, folder_of, interleaved, neighbours, ratio, save, show
from benchmarks.service import Served
from cupola import load_settings

SETTINGS = {
    "2 threads, spinning": {"CUPOLA_PROVIDERS_CPU_THREADS": "2"},
    "2 threads, not spinning": {"CUPOLA_PROVIDERS_CPU_THREADS": "2", "CUPOLA_PROVIDERS_CPU_SPINNING": "false"},
    "1 thread": {"CUPOLA_PROVIDERS_CPU_THREADS": "1"},
    "2 threads, chunks of 128": {"CUPOLA_PROVIDERS_CPU_THREADS": "2", "CUPOLA_WORKER_PREFILL_CHUNK": "128"},
    "2 threads, chunks of 512": {"CUPOLA_PROVIDERS_CPU_THREADS": "2", "CUPOLA_WORKER_PREFILL_CHUNK": "512"},
}
"""The first is the default on a machine with two cores, and what the others are compared with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="two settings, one quick round, no result file")
    options = parser.parse_args(arguments)
    chosen = dict(list(SETTINGS.items())[: 2 if options.smoke else None])
    settings = load_settings()
    folder = anyio.run(folder_of, settings, options.model)
    with neighbours() as busy, ExitStack() as stack:
        idle = stack.enter_context(Floor("benchmarks.baselines.in_process", str(folder)))
        tasks: dict[str, Callable[[], float]] = {}
        for name, variables in chosen.items():
            served = stack.enter_context(Served(settings.cache_dir, options.model, **variables))
            new_tokens, prompt = (8, 200) if options.smoke else (64, 2000)
            batching = Batching(served, idle, idle, new_tokens=new_tokens, long_prompt=prompt)
            measured = batching.tasks()
            tasks |= {
                f"1 stream: {name}": measured["HTTP, 1 stream"],
                f"8 streams: {name}": measured["HTTP, 8 streams"],
                f"prefill: {name}": measured["HTTP prefill"],
                f"one-token requests: {name}": measured["HTTP, max_tokens=1, 8 at once"],
            }
        values = interleaved(1 if options.smoke else options.rounds, tasks, pause_s=0.5)
    figures = {name: Figure("per s", tuple(found)) for name, found in values.items()}
    default = next(iter(chosen))
    for name in list(figures):
        what, _, setting = name.partition(": ")
        if setting != default:
            figures[f"{name} / default"] = ratio(figures[name], figures[f"{what}: {default}"])
    show("settings of the CPU provider, through HTTP", figures, [], busy[0])
    if not options.smoke:
        save("defaults", figures, [], model=options.model, others_cores=busy[0])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
