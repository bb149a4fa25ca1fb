"""A `cupola serve` process with one model loaded, and a small streaming client that takes times."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
import msgspec
import psutil

from cupola.messages import Message
from cupola_server.bench.client import Answer, ChatClient
from cupola_server.bench.prompts import Prompt

WORDS = ("river", "copper", "meadow", "lantern", "harbour", "velvet", "thunder", "orchard", "marble", "falcon")


class Streamed(msgspec.Struct, frozen=True):
    """One streamed answer. Times in seconds from just before the request was sent."""

    ttft_s: float
    total_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def decode_per_s(self) -> float:
        """Tokens per second after the first one."""
        return (self.completion_tokens - 1) / (self.total_s - self.ttft_s)


class Served:
    """The service, started with the settings of the environment."""

    def __init__(self, cache: Path, model: str, **variables: str) -> None:
        self.model = model
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cupola_server.cli", "serve", "--port", "0", "--preload", model],
            env={**os.environ, "CUPOLA_CACHE_DIR": str(cache), **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        found = re.search(r"http://\S+", self._process.stdout.readline())
        if not found:
            raise RuntimeError("cupola serve did not start; run it by hand to see why")
        self.url = found.group()
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def worker_bytes(self) -> int:
        """Return the memory of the worker process."""
        (worker,) = psutil.Process(self._process.pid).children()
        return int(worker.memory_info().rss)

    def messages(self, words: int) -> list[dict[str, str]]:
        """Make a prompt that no other one shares more than a few tokens with."""
        number = next(self._numbers)
        pool = itertools.islice(itertools.cycle(WORDS[number % 10 :] + WORDS[: number % 10]), words)
        return [{"role": "system", "content": f"{number:03d}"}, {"role": "user", "content": " ".join(pool)}]

    def body(self, messages: list[dict[str, str]], new_tokens: int) -> dict[str, Any]:
        """Ask for exactly so many tokens, greedily."""
        return {
            "model": self.model,
            "messages": messages,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }

    def stream(self, messages: list[dict[str, str]], new_tokens: int) -> Streamed:
        """Ask, and read the answer as it comes."""
        body = {**self.body(messages, new_tokens), "stream": True, "stream_options": {"include_usage": True}}
        first = last = usage = None
        started = time.perf_counter()
        with self.client.stream("POST", "/v1/chat/completions", json=body) as reply:
            reply.raise_for_status()
            for line in reply.iter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                chunk = msgspec.json.decode(line[6:])
                if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    first, last = first or now, now
                usage = chunk.get("usage") or usage
        ended = time.perf_counter()  # an answer of nothing but end-of-sequence tokens has no text
        return Streamed(
            ttft_s=(first or ended) - started,
            total_s=(last or ended) - started,
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            completion_tokens=usage["completion_tokens"],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)


_ASKED = {"model", "messages", "max_tokens"}


def run_all(url: str, bodies: Sequence[dict[str, Any]], *, at_once: int = 0) -> list[Answer]:
    """Send the requests, at most `at_once` at the same time (0: all), and wait for every answer."""
    return anyio.run(_run_all, url, bodies, at_once or len(bodies))


async def _run_all(url: str, bodies: Sequence[dict[str, Any]], at_once: int) -> list[Answer]:
    answers: list[Answer] = []
    limiter = anyio.CapacityLimiter(at_once)

    async def one(body: dict[str, Any]) -> None:
        async with limiter:
            answers.append(await _ask(url, body))

    async with anyio.create_task_group() as group:
        for body in bodies:
            group.start_soon(one, body)
    return answers


async def _ask(url: str, body: dict[str, Any]) -> Answer:
    """Stream one chat over a connection of its own."""
    extra = {name: value for name, value in body.items() if name not in _ASKED}
    messages = tuple(Message(each["role"], each["content"]) for each in body["messages"])
    client = ChatClient("the service", f"{url}/v1", body["model"], extra)
    return await client.ask(Prompt(messages, ()), body["max_tokens"])
