"""Processor time of the service process per request and per token: all that is between the socket and the engine.

`python -m benchmarks.server_cpu [--rounds N] [--smoke]`. The service runs in a process of its own with all
layers of `cupola serve` and an engine that responds at once, so the figures contain nothing else. Every token is an
event of its own, as with one stream; with several streams each costs the same.
"""

import argparse
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, cast

import anyio
import psutil
from anyio.lowlevel import checkpoint

from benchmarks.harness import build_parser, finish, metered, run_interleaved
from cupola import Settings
from cupola.frontend import (
    EngineView,
    GenerateRequest,
    ModelInfo,
    ModelStatus,
    ResidentStatus,
    SessionReport,
    TurnFinished,
    TurnText,
    Usage,
)
from cupola_server.app import compose
from cupola_server.bench.statistics import Figure
from cupola_server.metrics import MetricsPlugin
from cupola_server.openai import OpenAIFrontend
from cupola_server.server import serve

MODEL = ModelInfo(id="instant-generic-cpu:1", alias="instant", source="benchmark", publisher="Cupola")
REPORT = SessionReport("slots", "", 8, 4096, 1, MODEL.provider, 0.0, 0)
GOAL_REQUEST_MS = 3.0
GOAL_TOKEN_MS = 0.15


class InstantEngine:
    """The part of an engine that chats need; a response has `max_tokens` tokens and takes no time."""

    async def resolve(self, name: str) -> ModelStatus:
        """Return the only model."""
        assert name == MODEL.alias
        return ModelStatus(MODEL, cached=True, loaded=True)

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator["InstantTurn"]:
        """Start a turn."""
        await checkpoint()
        yield InstantTurn(request.max_tokens or 16)

    async def load(self, name: str, *, ttl_s: float | None = None, use_fallback: bool = False) -> ResidentStatus:  # noqa: ARG002
        """Return the model as loaded."""
        assert name == MODEL.alias
        return ResidentStatus(MODEL, REPORT, pid=0, turns=0, ttl_s=ttl_s, expires_in_s=None)

    def residents(self) -> Sequence[ResidentStatus]:
        """Return no residents."""
        return ()


class InstantTurn:
    """A turn that yields one token at a time."""

    model, report, prompt_tokens = MODEL, REPORT, 20

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        """Yield the tokens, with a checkpoint before each as in a real engine."""
        for _ in range(self._tokens):
            await checkpoint()
            yield TurnText(1, " token", 1)
        yield TurnFinished(1, "length", Usage(self.prompt_tokens, self._tokens))


class MeasuredService:
    """The service in a process of its own, stopped on leaving the context."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.server_cpu", "--serve"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        port = int(self._process.stdout.readline().rpartition(":")[2])
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)

    def chat_cpu_ms(self, number: int, tokens: int, *, stream: bool) -> float:
        """Send requests one after the other; return processor milliseconds per request."""
        body = {
            "model": MODEL.alias,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}],
            "max_tokens": tokens,
            "temperature": 0.7,
            "stream": stream,
        }
        encoded = json.dumps(body)
        before = self._cpu_s()
        for _ in range(number):
            self._connection.request("POST", "/v1/chat/completions", encoded, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            content = response.read()
            assert response.status == 200, content
        return 1000 * (self._cpu_s() - before) / number

    def _cpu_s(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed, except in smoke runs."""
    parser = build_parser(__doc__, rounds=7, model=False)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        anyio.run(_serve)
        return 0
    requests, tokens = (20, 200) if options.smoke else (400, 4000)
    with metered() as meter, MeasuredService() as service:
        values = run_interleaved(
            1 if options.smoke else options.rounds,
            {
                "chat request": lambda: service.chat_cpu_ms(requests, 1, stream=False),
                "streamed chat of 1 token": lambda: service.chat_cpu_ms(requests, 1, stream=True),
                "streamed token": lambda: service.chat_cpu_ms(1, tokens, stream=True) / tokens,
            },
        )
    figures = {name: Figure("ms of CPU", tuple(found)) for name, found in values.items()}
    checks = [
        (f"a chat request under {GOAL_REQUEST_MS:g} ms", figures["chat request"].median < GOAL_REQUEST_MS),
        (f"a streamed token under {GOAL_TOKEN_MS:g} ms", figures["streamed token"].median < GOAL_TOKEN_MS),
    ]
    title, settings = "CPU time of the service process", {"requests": requests, "tokens": tokens}
    return finish("server_cpu", title, figures, checks, meter=meter, smoke=options.smoke, **settings)


async def _serve() -> None:
    settings, stop, metrics = Settings(), anyio.Event(), MetricsPlugin()
    frontends = [OpenAIFrontend(settings), *metrics.api_frontends(settings)]
    app = compose(frontends, cast("EngineView", InstantEngine()))
    server = type(settings.server)(port=0)
    async with anyio.create_task_group() as tasks:

        async def serving() -> None:
            await serve(app, server, ready=_print_url, stop=stop, observe=lambda event: metrics.observe(event=event))
            tasks.cancel_scope.cancel()

        tasks.start_soon(serving)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                stop.set()


def _print_url(url: str) -> None:
    print(url, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
