"""The gain of speculation: one and three streams with and without it, on different kinds of prompts.

`python -m benchmarks.speculation [--rounds N] [--smoke]`. Two services, one with speculation and one without, get
the same requests in turn. Text that repeats the prompt is predicted well, a story is not; there the search for drafts
and the rejected drafts must cost next to nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks.harness import build_parser, divide, finish, metered, run_interleaved
from benchmarks.service import ServiceProcess, send_all
from cupola import load_settings
from cupola_server.bench.statistics import Figure

_ARTICLE = (
    "The harbour of Lindgren was built in 1874 by fishermen who had lost their boats in three winters of storms. They "
    "raised two walls of granite, each four hundred metres long, and a lighthouse at the end of the northern wall. "
    "The lighthouse burned whale oil until 1901, when the town council bought a paraffin lamp from Gothenburg. Today "
    "the harbour has sixty berths, a school of sailing and a museum that shows the tools of the first builders."
)
_CODE = (
    "def total(prices, rate):\n    result = 0\n    for price in prices:\n        if price > 0:\n"
    "            result = result + price\n    result = result + result * rate\n    return result\n\n"
    "def average(prices):\n    result = 0\n    for price in prices:\n        result = result + price\n"
    "    return result / len(prices)\n"
)
PROMPTS = {
    "summary": f"Summarise this text in a few sentences, with its own words:\n\n{_ARTICLE}",
    "code": f"Rewrite this code, with the name `result` changed to `total`. Write all of it:\n\n```python\n{_CODE}```",
    "story": "Write a long story about a girl who finds a door in an old tree.",
}
MAX_LOSS = 0.03


class Speculation:
    """The same requests to services with and without speculation, by the name of the service."""

    def __init__(self, services: dict[str, ServiceProcess], new_tokens: int) -> None:
        self._services = services
        self._new_tokens = new_tokens

    def tasks(
        self, kinds: Iterable[str] = PROMPTS, streams_of: Iterable[int] = (1, 3)
    ) -> dict[str, Callable[[], float]]:
        """Return what is measured in a round, by name."""
        return {
            f"{kind}, {streams} stream{'s' * (streams > 1)}, {sampling}, {name}": partial(
                self._total_per_s, name, kind, streams, temperature
            )
            for kind in kinds
            for streams in streams_of
            for sampling, temperature in (("greedy", 0.0), ("sampled", 0.8))
            for name in self._services
        }

    def _total_per_s(self, name: str, kind: str, streams: int, temperature: float) -> float:
        """Return tokens per second of all streams together, from the first token of any stream to the last one."""
        service = self._services[name]
        responses = send_all(
            service.url, [self._make_body(service, kind, temperature, seed) for seed in range(streams)]
        )
        tokens = sum(response.completion_tokens - 1 for response in responses)
        return tokens / (
            max(response.ended_at for response in responses) - min(response.times[0] for response in responses)
        )

    def _make_body(self, service: ServiceProcess, kind: str, temperature: float, seed: int) -> dict[str, Any]:
        body = service.make_body([{"role": "user", "content": PROMPTS[kind]}], self._new_tokens)
        return {**body, "temperature": temperature, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if speculation loses more than `MAX_LOSS` anywhere, except in smoke runs."""
    options = build_parser(__doc__, rounds=11).parse_args(arguments)
    cache = load_settings().cache_dir
    with (
        metered() as meter,
        ServiceProcess(cache, options.model, CUPOLA_PROVIDERS_CPU_SPECULATION="false") as without,
        ServiceProcess(cache, options.model, CUPOLA_PROVIDERS_CPU_SPECULATION="true") as guessing,
    ):
        speculation = Speculation({"without": without, "guessing": guessing}, 8 if options.smoke else 128)
        tasks = speculation.tasks(["summary"], [1]) if options.smoke else speculation.tasks()
        values = run_interleaved(1 if options.smoke else options.rounds, tasks, pause_s=0.05)
    measured = {name: Figure("tokens/s", tuple(found)) for name, found in values.items()}
    gains = {
        name.removesuffix(", guessing"): divide(figure, measured[name.replace(", guessing", ", without")])
        for name, figure in measured.items()
        if name.endswith(", guessing")
    }
    worst = min(gains, key=lambda name: gains[name].median)
    checks = [(f"loses under 3 % anywhere; worst: {worst}", gains[worst].median >= 1 - MAX_LOSS)]
    title, figures = "guessing ahead / without", {**measured, **gains}
    return finish("speculation", title, figures, checks, meter=meter, smoke=options.smoke, model=options.model)


if __name__ == "__main__":
    raise SystemExit(main())
