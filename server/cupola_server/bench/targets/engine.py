"""The engine in this process: no HTTP, no JSON, but worker and engine as in the service."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from cupola.messages import ChatPrompt, GenerateRequest, Sampling, TurnFinished, TurnText
from cupola_server.bench.answers import Answer, Prompt
from cupola_server.bench.targets.settings import settings_of
from cupola_server.bench.targets.target import Started, Target

if TYPE_CHECKING:
    from cupola.engine import Engine


class EngineTarget(Target):
    """A model, asked through `Engine.generate`.

    Args:
        name: Unique in the run.
        title: For tables.
        model: The model's id.
        open_engine: Opens an engine with the settings to measure.
    """

    def __init__(
        self, name: str, title: str, model: str, open_engine: "Callable[[], AbstractAsyncContextManager[Engine]]"
    ) -> None:
        self.name, self.title, self.model = name, title, model
        self._open_engine = open_engine
        self.engine: Engine | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Open the engine and load the model."""
        async with self._open_engine() as engine:
            self.engine = engine
            started = time.perf_counter()
            status = await engine.load(self.model, ttl_s=0)
            load_s = time.perf_counter() - started
            try:
                yield Started(load_s, (status.pid,), (os.getpid(),), settings=settings_of(status.report))
            finally:
                self.engine = None

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Run one turn."""
        request = GenerateRequest(
            self.model, ChatPrompt(prompt.messages), Sampling(temperature=0.0), new_tokens, ignore_eos=True
        )
        assert self.engine
        times, finished = [], None
        sent_at = time.perf_counter()
        async with self.engine.generate(request) as turn:
            async for event in turn:
                if isinstance(event, TurnText) and event.text:
                    times.append(time.perf_counter())
                elif isinstance(event, TurnFinished):
                    finished = event
        assert finished
        ended_at = times[-1] if times else time.perf_counter()
        usage = finished.usage
        return Answer(sent_at, times, ended_at, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
