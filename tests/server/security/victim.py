"""The process behind the fixture `victim`: the real server, the OpenAI front-end and metrics over a scripted engine."""

import itertools
import signal
from contextlib import asynccontextmanager

import anyio

from cupola import load_settings
from cupola_server.app import compose
from cupola_server.metrics import MetricsPlugin
from cupola_server.openai import OpenAIFrontend
from cupola_server.server import serve
from server.fake_engine import FakeEngine


class Engine(FakeEngine):
    """Talks without end when it is asked to."""

    @asynccontextmanager
    async def generate(self, request):
        endless = request.prompt.messages[-1].content == "forever"
        self.script = itertools.repeat("again ") if endless else ("Hello", ", ", "world")
        async with super().generate(request) as generation:
            yield generation


async def main():
    engine, metrics, stop = Engine(), MetricsPlugin(), anyio.Event()
    settings = load_settings()
    frontends = [OpenAIFrontend(settings), *metrics.api_frontends(settings)]
    app = compose(frontends, engine)

    def ready(url):
        print(url, flush=True)

    async with anyio.create_task_group() as tasks:

        async def serving():
            observe = lambda event: metrics.observe(event=event)  # noqa: E731
            await serve(app, settings.server, ready=ready, stop=stop, observe=observe)
            tasks.cancel_scope.cancel()

        tasks.start_soon(serving)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                stop.set()


anyio.run(main)
