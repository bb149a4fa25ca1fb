"""What guessing ahead brings: one and three streams with it and without, on prompts of different kinds.

`python -m benchmarks.speculation [--rounds N] [--smoke]`. Two services, one that may guess and one that may not, are
asked the same in turn. A prompt that asks for what it holds is guessed well, a story from nothing is not; there the
search for guesses and the checks in vain must cost next to nothing.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks.harness import Figure, interleaved, neighbours, ratio, save, show
from benchmarks.service import Served, run_all
from cupola import load_settings

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
MOST_LOSS = 0.03


class Guessing:
    """The same requests to a service that guesses and to one that does not."""

    def __init__(self, services: dict[str, Served], new_tokens: int) -> None:
        self._services = services
        self._new_tokens = new_tokens

    def tasks(
        self, kinds: Iterable[str] = PROMPTS, streams_of: Iterable[int] = (1, 3)
    ) -> dict[str, Callable[[], float]]:
        """Name everything that is measured in a round."""
        return {
            f"{kind}, {streams} stream{'s' * (streams > 1)}, {how}, {name}": partial(
                self._per_s, name, kind, streams, temperature
            )
            for kind in kinds
            for streams in streams_of
            for how, temperature in (("greedy", 0.0), ("sampled", 0.8))
            for name in self._services
        }

    def _per_s(self, name: str, kind: str, streams: int, temperature: float) -> float:
        """Return tokens per second of all streams together, from the first token of any to the last one."""
        served = self._services[name]
        answers = run_all(served.url, [self._body(served, kind, temperature, seed) for seed in range(streams)])
        tokens = sum(answer.completion_tokens - 1 for answer in answers)
        return tokens / (max(one.ended_at for one in answers) - min(one.times[0] for one in answers))

    def _body(self, served: Served, kind: str, temperature: float, seed: int) -> dict[str, Any]:
        body = served.body([{"role": "user", "content": PROMPTS[kind]}], self._new_tokens)
        return {**body, "temperature": temperature, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if guessing loses more than it may and this was no smoke run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--smoke", action="store_true", help="one quick round, no result file, no verdict")
    options = parser.parse_args(arguments)
    cache = load_settings().cache_dir
    with (
        neighbours() as busy,
        Served(cache, options.model, CUPOLA_PROVIDERS_CPU_SPECULATION="false") as without,
        Served(cache, options.model, CUPOLA_PROVIDERS_CPU_SPECULATION="true") as guessing,
    ):
        guess = Guessing({"without": without, "guessing": guessing}, 8 if options.smoke else 128)
        tasks = guess.tasks(["summary"], [1]) if options.smoke else guess.tasks()
        values = interleaved(1 if options.smoke else options.rounds, tasks, pause_s=0.05)
    measured = {name: Figure("tokens/s", tuple(found)) for name, found in values.items()}
    gains = {
        name.removesuffix(", guessing"): ratio(figure, measured[name.replace(", guessing", ", without")])
        for name, figure in measured.items()
        if name.endswith(", guessing")
    }
    worst = min(gains, key=lambda name: gains[name].median)
    checks = [(f"loses under 3 % anywhere; worst: {worst}", gains[worst].median >= 1 - MOST_LOSS)]
    show("guessing ahead / without", gains, checks, busy[0])
    if options.smoke:
        return 0
    save("speculation", {**measured, **gains}, checks, model=options.model, others_cores=busy[0])
    return 0 if all(met for _, met in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
