"""Thousands of short requests, some of them cancelled at random: no error, no leak, no slot lost.

`python -m benchmarks.soak [--requests N] [--smoke]`. The worker's memory is read after a quarter of the requests and
at the end; the two must be within 5 %. Afterwards as many requests as there are slots must run side by side.
"""

import argparse
import random
from collections.abc import Sequence
from typing import Any

import anyio
import httpx

from benchmarks.harness import Figure, neighbours, save, show
from benchmarks.service import Served, run_all
from cupola import load_settings

AT_ONCE = 16


class Soak:
    """The requests, and what became of them."""

    def __init__(self, served: Served, *, seed: int) -> None:
        self._served = served
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.answered = 0
        self.left = 0
        self.errors: list[str] = []

    async def run(self, count: int) -> None:
        """Send so many requests, a few at a time."""
        limiter = anyio.CapacityLimiter(AT_ONCE)
        async with (
            httpx.AsyncClient(base_url=self._served.url, timeout=120) as client,
            anyio.create_task_group() as group,
        ):
            for _ in range(count):
                await limiter.acquire_on_behalf_of(token := object())
                group.start_soon(self._one, client, limiter, token, self._plan())

    def _plan(self) -> tuple[dict[str, Any], float | None]:
        """Choose a request, and when its client leaves, if it does."""
        body = self._served.body(self._served.messages(self._random.randint(1, 120)), self._random.randint(1, 24))
        body["stream"] = self._random.random() < 0.7
        return body, self._random.uniform(0.0, 0.5) if self._random.random() < 0.3 else None

    async def _one(
        self,
        client: httpx.AsyncClient,
        limiter: anyio.CapacityLimiter,
        token: object,
        plan: tuple[dict[str, Any], float | None],
    ) -> None:
        body, leaves_after_s = plan
        try:
            with anyio.move_on_after(leaves_after_s) as scope:
                async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
                    text = await reply.aread()
                    if reply.status_code != 200 or b'"error"' in text:
                        self.errors.append(text.decode("utf-8", "replace"))
                self.answered += 1
            self.left += scope.cancelled_caught
        finally:
            limiter.release_on_behalf_of(token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; returns 1 if anything went wrong and this was no smoke run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few requests, no result file, no verdict on memory")
    options = parser.parse_args(arguments)
    count = 60 if options.smoke else options.requests
    settings = load_settings()
    with neighbours() as busy, Served(settings.cache_dir, options.model) as served:
        soak = Soak(served, seed=options.seed)
        anyio.run(soak.run, count // 4)
        early = served.worker_bytes()
        anyio.run(soak.run, count - count // 4)
        late = served.worker_bytes()
        bodies = [served.body(served.messages(3), 8) for _ in range(AT_ONCE)]
        after = run_all(served.url, bodies)
    figures = {
        "worker, after a quarter": Figure("MB", (early / 1e6,)),
        "worker, at the end": Figure("MB", (late / 1e6,)),
        "growth": Figure("times", (late / early,)),
        "answered": Figure("requests", (float(soak.answered),)),
        "left early": Figure("requests", (float(soak.left),)),
    }
    checks = [
        ("no error", not soak.errors),
        ("worker memory within 5 %", abs(late / early - 1) <= 0.05),
        ("every slot still answers", all(answer.completion_tokens == 8 for answer in after)),
    ]
    show(f"soak of {count} requests, {AT_ONCE} at once", figures, checks, busy[0])
    for error in soak.errors[:3]:
        print(error[:300])
    if options.smoke:
        return int(bool(soak.errors))
    save("soak", figures, checks, model=options.model, requests=count, seed=options.seed, others_cores=busy[0])
    return 0 if all(met for _, met in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
