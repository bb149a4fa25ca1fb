"""Thousands of short requests, some of them cancelled at random: no error, no leak, no lost slot.

`python -m benchmarks.soak [--requests N] [--smoke]`. The worker's memory is read after a quarter of the requests and
at the end; the two must be within 5 %. Afterwards as many requests as there are slots must run at once.
"""

import argparse
import random
from collections.abc import Sequence
from typing import Any

import anyio
import httpx

from benchmarks.harness import finish, metered
from benchmarks.service import ServiceProcess, send_all
from cupola import load_settings
from cupola_server.bench.statistics import Figure

AT_ONCE = 16


class Soak:
    """Sends random requests, and counts how they end.

    Attributes:
        answered: Number of requests with a complete response.
        left: Number of requests whose client left early.
        errors: The bodies of error responses.
    """

    def __init__(self, service: ServiceProcess, *, seed: int) -> None:
        self._service = service
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.answered = 0
        self.left = 0
        self.errors: list[str] = []

    async def run(self, count: int) -> None:
        """Send so many requests, `AT_ONCE` at a time."""
        limiter = anyio.CapacityLimiter(AT_ONCE)
        async with (
            httpx.AsyncClient(base_url=self._service.url, timeout=120) as client,
            anyio.create_task_group() as group,
        ):
            for _ in range(count):
                await limiter.acquire_on_behalf_of(token := object())
                group.start_soon(self._send, client, limiter, token, self._choose_request())

    def _choose_request(self) -> tuple[dict[str, Any], float | None]:
        """Return the body of a random request, and after how many seconds its client leaves, if it does."""
        messages = self._service.make_messages(self._random.randint(1, 120))
        body = self._service.make_body(messages, self._random.randint(1, 24))
        body["stream"] = self._random.random() < 0.7
        return body, self._random.uniform(0.0, 0.5) if self._random.random() < 0.3 else None

    async def _send(
        self,
        client: httpx.AsyncClient,
        limiter: anyio.CapacityLimiter,
        token: object,
        request: tuple[dict[str, Any], float | None],
    ) -> None:
        body, leaves_after_s = request
        try:
            with anyio.move_on_after(leaves_after_s) as scope:
                async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                    text = await response.aread()
                    if response.status_code != 200 or b'"error"' in text:
                        self.errors.append(text.decode("utf-8", "replace"))
                self.answered += 1
            self.left += scope.cancelled_caught
        finally:
            limiter.release_on_behalf_of(token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; returns 1 if a check failed, in smoke runs only if there was an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few requests, no result file, no verdict on memory")
    options = parser.parse_args(arguments)
    count = 60 if options.smoke else options.requests
    with metered() as meter, ServiceProcess(load_settings().cache_dir, options.model) as service:
        soak = Soak(service, seed=options.seed)
        anyio.run(soak.run, count // 4)
        early = service.worker_bytes()
        anyio.run(soak.run, count - count // 4)
        late = service.worker_bytes()
        bodies = [service.make_body(service.make_messages(3), 8) for _ in range(AT_ONCE)]
        responses = send_all(service.url, bodies)
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
        ("every slot still answers", all(response.completion_tokens == 8 for response in responses)),
    ]
    title, settings = f"soak of {count} requests, {AT_ONCE} at once", {"requests": count, "seed": options.seed}
    failed = finish("soak", title, figures, checks, meter=meter, smoke=options.smoke, model=options.model, **settings)
    for error in soak.errors[:3]:
        print(error[:300])
    return int(bool(failed or soak.errors))


if __name__ == "__main__":
    raise SystemExit(main())
