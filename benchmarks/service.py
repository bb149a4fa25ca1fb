"""A `cupola serve` process with one model loaded, and clients that measure the times of its responses."""

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
from cupola_server.bench.client import ChatClient, TimedResponse
from cupola_server.bench.prompts import Prompt

WORDS = ("river", "copper", "meadow", "lantern", "harbour", "velvet", "thunder", "orchard", "marble", "falcon")
_CLIENT_FIELDS = {"model", "messages", "max_tokens"}
"""Request fields that `ChatClient` sets itself."""


class ServiceProcess:
    """The service in a process of its own, stopped on leaving the context.

    Args:
        cache: The cache folder.
        model: Name of the model to load.
        variables: Environment variables, for settings.

    Attributes:
        url: Base URL of the service.
    """

    def __init__(self, cache: Path, model: str, **variables: str) -> None:
        self._model = model
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cupola_server.cli", "serve", "--port", "0", "--preload", model],
            env={**os.environ, "CUPOLA_CACHE_DIR": str(cache), **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        match = re.search(r"http://\S+", self._process.stdout.readline())
        if not match:
            raise RuntimeError(f"cupola serve did not start. To see why, run: cupola serve --preload {model}")
        self.url = match.group()
        self._client = httpx.Client(base_url=self.url, timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)

    def worker_bytes(self) -> int:
        """Return the resident memory of the worker process in bytes."""
        (worker,) = psutil.Process(self._process.pid).children()
        return int(worker.memory_info().rss)

    def make_messages(self, words: int) -> list[dict[str, str]]:
        """Make a prompt of so many words that shares at most a few tokens of its beginning with any other one."""
        number = next(self._numbers)
        text = itertools.islice(itertools.cycle(WORDS[number % 10 :] + WORDS[: number % 10]), words)
        return [{"role": "system", "content": f"{number:03d}"}, {"role": "user", "content": " ".join(text)}]

    def make_body(self, messages: list[dict[str, str]], new_tokens: int) -> dict[str, Any]:
        """Make the body of a greedy request for exactly `new_tokens` tokens."""
        return {
            "model": self._model,
            "messages": messages,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }

    def stream(self, messages: list[dict[str, str]], new_tokens: int) -> TimedResponse:
        """Stream one response over a connection that is kept open.

        Raises:
            httpx.HTTPStatusError: The service responded with an error.
        """
        body = {**self.make_body(messages, new_tokens), "stream": True, "stream_options": {"include_usage": True}}
        times, usage = list[float](), dict[str, Any]()
        sent_at = time.perf_counter()
        with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                chunk = msgspec.json.decode(line[6:])
                if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    times.append(now)
                usage = chunk.get("usage") or usage
        ended_at = times[-1] if times else time.perf_counter()  # a response of end-of-sequence tokens has no text
        return TimedResponse(
            sent_at,
            times,
            ended_at,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        )


def send_all(url: str, bodies: Sequence[dict[str, Any]], *, at_once: int = 0) -> list[TimedResponse]:
    """Stream responses to all requests, at most `at_once` at a time (0: all), each over a connection of its own.

    Args:
        url: Base URL of the service.
        bodies: Bodies of chat completion requests.
        at_once: Limit of concurrent requests.

    Returns:
        The responses in the order of their ends.
    """
    return anyio.run(_send_all, url, bodies, at_once or len(bodies))


async def _send_all(url: str, bodies: Sequence[dict[str, Any]], at_once: int) -> list[TimedResponse]:
    responses: list[TimedResponse] = []
    limiter = anyio.CapacityLimiter(at_once)

    async def send(body: dict[str, Any]) -> None:
        async with limiter:
            extra = {name: value for name, value in body.items() if name not in _CLIENT_FIELDS}
            messages = tuple(Message(message["role"], message["content"]) for message in body["messages"])
            client = ChatClient("the service", f"{url}/v1", body["model"], extra)
            responses.append(await client.generate(Prompt(messages, ()), body["max_tokens"]))

    async with anyio.create_task_group() as group:
        for body in bodies:
            group.start_soon(send, body)
    return responses
