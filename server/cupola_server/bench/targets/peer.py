"""A peer: a program that an adapter runs, in a virtual environment of its own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import msgspec

from cupola_server.bench.adapters import Adapter
from cupola_server.bench.answers import Answer, Prompt
from cupola_server.bench.client import ChatClient, PeerError
from cupola_server.bench.environments import python_for
from cupola_server.bench.targets.process import ServerProcess
from cupola_server.bench.targets.target import Started, Target


@dataclass(frozen=True, slots=True)
class Job:
    """What every peer of a run is given.

    Attributes:
        model: The model's id.
        folder: Where its files lie.
        threads: Compute threads of those that are tuned.
        streams: Most answers at a time.
        context: Most tokens of a prompt and its answer.
    """

    model: str
    folder: Path
    threads: int
    streams: int
    context: int


class PeerTarget(Target):
    """One variant of an adapter."""

    def __init__(self, adapter: Adapter, variant: str, job: Job) -> None:
        is_only = len(adapter.variants) == 1
        self.name = adapter.name if is_only else f"{adapter.name}-{variant}"
        self.title = adapter.title if is_only else f"{adapter.title}, {variant}"
        self.model, self.note = job.model, adapter.note
        self.streams_limit = 1 if adapter.speaks == "lines" else None
        self._adapter, self._variant, self._job = adapter, variant, job
        self._client: ChatClient | None = None
        self._process: ServerProcess
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Install it if need be, start it, and wait for its first line."""
        python = await python_for(self._adapter)
        with tempfile.TemporaryDirectory(prefix="cupola-peer-", ignore_cleanup_errors=True) as work:
            given = {
                "model": str(self._job.folder),
                "variant": self._variant,
                "threads": self._job.threads,
                "streams": self._job.streams,
                "context": self._job.context,
                "work": work,
            }
            home = {"HOME": work, "USERPROFILE": work}  # what it writes about itself goes with it
            command = [str(python), str(self._adapter.path), msgspec.json.encode(given).decode()]
            began = perf_counter()
            async with ServerProcess(self.name, command, {**home, **self._adapter.environment}) as process:
                told = await self._first(process)
                self._process = process
                if url := told.get("url"):
                    self._client = ChatClient(self.name, url, told["model"], self._adapter.extra)
                settings = {"variant": self._variant, **({"build": told["build"]} if "build" in told else {})}
                yield Started(
                    perf_counter() - began, (process.pid,), versions=told.get("versions", {}), settings=settings
                )

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask over HTTP, or the adapter itself if it speaks in lines."""
        if self._client:
            return await self._client.ask(prompt, new_tokens)
        async with self._turn:
            sent_at = perf_counter()
            await self._process.send(msgspec.json.encode({"tokens": prompt.tokens, "new_tokens": new_tokens}))
            told = msgspec.json.decode(await self._process.line())
        times = [sent_at + time_s for time_s in told["times"]]
        return Answer(sent_at, times, times[-1], len(prompt.tokens), len(times))

    async def _first(self, process: ServerProcess) -> dict[str, Any]:
        """Return the first line that is one of the adapter's own; libraries may write others before."""
        while True:
            line = await process.line()
            if not line.startswith('{"load_s"'):
                continue
            try:
                told: dict[str, Any] = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise PeerError(name=self.name, detail=f"its adapter said {line[:200]!r}: {error}") from error
            return told
