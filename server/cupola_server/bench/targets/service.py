"""`cupola serve` in a process of its own, asked over HTTP."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec

from cupola.client.api import LoadedModels
from cupola_server.bench.answers import Answer, Prompt
from cupola_server.bench.client import ChatClient, PeerError
from cupola_server.bench.targets.process import ServerProcess
from cupola_server.bench.targets.settings import settings_of
from cupola_server.bench.targets.target import Started, Target


class ServiceTarget(Target):
    """A model, asked through our own service.

    Args:
        name: Unique in the run.
        title: For tables.
        model: The model's id.
        command: What starts the program `cupola`, with its global options.
    """

    def __init__(self, name: str, title: str, model: str, command: Sequence[str]) -> None:
        self.name, self.title, self.model = name, title, model
        self._command = [*command, "serve", "--port", "0", "--preload", model]
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Start the service with the model loaded."""
        started = time.perf_counter()
        async with ServerProcess(self.name, self._command) as process:
            url = (await process.line()).rpartition(" ")[2].strip()
            self._client = ChatClient(self.name, f"{url}/v1", self.model, {"ignore_eos": True})
            load_s = time.perf_counter() - started
            yield Started(load_s, (process.pid,), settings=await self._settings(url))

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask over HTTP."""
        return await self._client.ask(prompt, new_tokens)

    async def _settings(self, url: str) -> dict[str, str]:
        """Say what the model runs with; a failure to load it is told here."""
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            reply = msgspec.json.decode((await client.get("/cupola/ps")).content, type=LoadedModels)
        if not reply.models:
            raise PeerError(
                name=self.name, detail=f"the service did not load it; try: cupola serve --preload {self.model}"
            )
        return settings_of(reply.models[0])
