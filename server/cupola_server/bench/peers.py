"""A peer: a program that an adapter runs, in a virtual environment of its own."""

import shlex
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import httpx
import msgspec

from cupola_server.bench.adapters import Adapter, python_for
from cupola_server.bench.client import Answer, ChatClient
from cupola_server.bench.errors import PeerError
from cupola_server.bench.prompts import Prompt
from cupola_server.bench.targets import START_S, ServerProcess, Started, Target


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


_POLL_S = 0.1


class RemoteTarget(Target):
    """A server at a base URL. Its processor time and memory cannot be seen.

    Args:
        url: "http://127.0.0.1:8080/v1"; "#name" behind it chooses the model, else the first that it lists.
        key: API key, if it wants one.
    """

    def __init__(self, url: str, key: str = "") -> None:
        base, _, self.model = url.partition("#")
        self.name = self.title = self._url = base.rstrip("/")
        self._key = key
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Ask for its models."""
        started = time.perf_counter()
        models = await models_of(self.name, self._url, self._key)
        self.model = self.model or models[0]
        self._client = ChatClient(self.name, self._url, self.model, key=self._key)
        yield Started(time.perf_counter() - started)

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask over HTTP."""
        return await self._client.ask(prompt, new_tokens)


class CommandTarget(Target):
    """A server that a command line starts.

    Args:
        command: Words as in a shell; {port} and the names of the fields are filled in. It must listen on that port
            of 127.0.0.1, with OpenAI's API under /v1.
        model: The model's id.
        fields: What they are filled with.
    """

    def __init__(self, command: str, model: str, **fields: object) -> None:
        self._command, self._fields = command, fields
        self.name = self.title = shlex.split(command)[0].rpartition("/")[2]
        self.model = model
        self.note = f"started as: {command}"
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Start it and wait until it lists a model."""
        port = _free_port()
        try:
            words = [word.format(port=port, **self._fields) for word in shlex.split(self._command)]
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(f"{{{name}}}" for name in ("port", *self._fields))
            detail = f"its command has a placeholder that is none of {known}: {error}"
            raise PeerError(name=self.name, detail=detail) from error
        started = time.perf_counter()
        async with ServerProcess(self.name, words) as process:
            url = f"http://127.0.0.1:{port}/v1"
            models = await self._wait(process, url)
            self._client = ChatClient(self.name, url, models[0], {"ignore_eos": True})
            yield Started(time.perf_counter() - started, (process.pid,), settings={"command": self._command})

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask over HTTP."""
        return await self._client.ask(prompt, new_tokens)

    async def _wait(self, process: ServerProcess, url: str) -> list[str]:
        """Return the models that it lists as soon as it answers."""
        deadline = anyio.current_time() + START_S
        while True:
            try:
                return await models_of(self.name, url)
            except PeerError as error:
                if process.ended() or anyio.current_time() > deadline:
                    detail = f"{error.detail}. {process.last_words()}"
                    raise PeerError(name=self.name, detail=detail) from None
            await anyio.sleep(_POLL_S)  # a server tells nobody that it is ready


async def models_of(name: str, url: str, key: str = "") -> list[str]:
    """Return the names of a server's models.

    Raises:
        PeerError: It does not answer, or has none.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=30, headers=headers) as client:
            reply = await client.get(f"{url}/models")
            models = [each["id"] for each in msgspec.json.decode(reply.content)["data"]]
    except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise PeerError(name=name, detail=f"{url}/models gives no list of models: {error}") from error
    if not models:
        raise PeerError(name=name, detail="it serves no model")
    return models


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
