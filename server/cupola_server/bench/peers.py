"""Targets outside of Cupola: peers that an adapter runs, servers that already run, and command lines of servers."""

import shlex
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec

from cupola_server.bench.adapters import Adapter, prepare_interpreter
from cupola_server.bench.client import ChatClient, TimedResponse
from cupola_server.bench.errors import TargetError
from cupola_server.bench.prompts import Prompt
from cupola_server.bench.targets import START_TIMEOUT_S, ServerProcess, Startup, Target

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """What every peer of a run is given; `benchmarks/peers/job.py` is the adapter's side of it.

    Attributes:
        model: The model's id.
        folder: The folder with the model's files.
        threads: Number of compute threads for tuned variants.
        streams: Most requests at a time.
        context: Most tokens of a prompt and its response together.
    """

    model: str
    folder: Path
    threads: int
    streams: int
    context: int


class PeerTarget(Target):
    """One variant of an adapter, run in the adapter's virtual environment."""

    def __init__(self, adapter: Adapter, variant: str, job: Job) -> None:
        is_only = len(adapter.variants) == 1
        self.name = adapter.name if is_only else f"{adapter.name}-{variant}"
        self.title = adapter.title if is_only else f"{adapter.title}, {variant}"
        self.model, self.note = job.model, adapter.note
        self.max_streams = 1 if adapter.protocol == "lines" else None
        self._adapter, self._variant, self._job = adapter, variant, job
        self._client: ChatClient | None = None
        self._process: ServerProcess
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Startup]:
        """Install the adapter's packages if need be, start it, and wait for its first line."""
        python = await prepare_interpreter(self._adapter)
        with tempfile.TemporaryDirectory(prefix="cupola-peer-", ignore_cleanup_errors=True) as work:
            job = {
                "model": str(self._job.folder),
                "variant": self._variant,
                "threads": self._job.threads,
                "streams": self._job.streams,
                "context": self._job.context,
                "work": work,
            }
            home = {"HOME": work, "USERPROFILE": work}  # files that the peer leaves there are removed with it
            command = [str(python), str(self._adapter.path), msgspec.json.encode(job).decode()]
            started = time.perf_counter()
            async with ServerProcess(self.name, command, {**home, **self._adapter.environment}) as process:
                ready = await self._read_ready_line(process)
                self._process = process
                if url := ready.get("url"):
                    self._client = ChatClient(self.name, url, ready["model"], self._adapter.extra)
                settings = {"variant": self._variant, **({"build": ready["build"]} if "build" in ready else {})}
                load_s = time.perf_counter() - started
                yield Startup(load_s, (process.pid,), versions=ready.get("versions", {}), settings=settings)

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Send one request over HTTP, or as a line of JSON to an adapter that uses the protocol "lines"."""
        if self._client:
            return await self._client.generate(prompt, new_tokens)
        async with self._lock:
            sent_at = time.perf_counter()
            await self._process.write_line(msgspec.json.encode({"tokens": prompt.tokens, "new_tokens": new_tokens}))
            response = msgspec.json.decode(await self._process.read_line())
        times = [sent_at + time_s for time_s in response["times"]]
        return TimedResponse(sent_at, times, times[-1], len(prompt.tokens), len(times))

    async def _read_ready_line(self, process: ServerProcess) -> dict[str, Any]:
        """Return the adapter's first line, decoded; libraries may print others before it."""
        while True:
            line = await process.read_line()
            if not line.startswith('{"load_s"'):
                continue
            try:
                ready: dict[str, Any] = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                detail = f"its adapter printed invalid JSON: {line[:200]!r}: {error}"
                raise TargetError(name=self.name, detail=detail) from error
            return ready


class RemoteTarget(Target):
    """A server that already runs at a base URL. Its processor time and memory cannot be measured.

    Args:
        url: "http://127.0.0.1:8080/v1"; "#name" after it selects the model, else it is the first one listed.
        key: API key, if the server needs one.
    """

    def __init__(self, url: str, key: str = "") -> None:
        base, _, self.model = url.partition("#")
        self.name = self.title = self._url = base.rstrip("/")
        self._key = key
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Startup]:
        """Look up the model."""
        started = time.perf_counter()
        models = await list_models(self.name, self._url, self._key)
        self.model = self.model or models[0]
        self._client = ChatClient(self.name, self._url, self.model, key=self._key)
        yield Startup(time.perf_counter() - started)

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Send one request over HTTP."""
        return await self._client.generate(prompt, new_tokens)


class CommandTarget(Target):
    """A server that a command line starts.

    Args:
        command: Command line with shell quoting; {port} and the names of `fields` in braces are replaced. The server
            must listen on that port of 127.0.0.1 and serve OpenAI's API under /v1.
        model: The model's id.
        fields: The values to replace names with.
    """

    def __init__(self, command: str, model: str, **fields: object) -> None:
        self._command, self._fields = command, fields
        self.name = self.title = shlex.split(command)[0].rpartition("/")[2]
        self.model = model
        self.note = f"started as: {command}"
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Startup]:
        """Start the server and wait until it lists a model."""
        port = _find_free_port()
        try:
            words = [word.format(port=port, **self._fields) for word in shlex.split(self._command)]
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(f"{{{name}}}" for name in ("port", *self._fields))
            detail = f"unknown placeholder in its command: {error}. Available: {known}"
            raise TargetError(name=self.name, detail=detail) from error
        started = time.perf_counter()
        async with ServerProcess(self.name, words) as process:
            url = f"http://127.0.0.1:{port}/v1"
            models = await self._wait_for_models(process, url)
            self._client = ChatClient(self.name, url, models[0], {"ignore_eos": True})
            yield Startup(time.perf_counter() - started, (process.pid,), settings={"command": self._command})

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Send one request over HTTP."""
        return await self._client.generate(prompt, new_tokens)

    async def _wait_for_models(self, process: ServerProcess, url: str) -> list[str]:
        """Return the models of the server as soon as it responds."""
        deadline = anyio.current_time() + START_TIMEOUT_S
        while True:
            try:
                return await list_models(self.name, url)
            except TargetError as error:
                if process.has_ended or anyio.current_time() > deadline:
                    detail = f"{error.detail}. {process.error_output()}"
                    raise TargetError(name=self.name, detail=detail) from None
            await anyio.sleep(_POLL_S)  # a foreign server sends no signal when it is ready


async def list_models(name: str, url: str, key: str = "") -> list[str]:
    """Return the names of the models that a server lists.

    Raises:
        TargetError: The server does not respond, or lists no model.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=30, headers=headers) as client:
            response = await client.get(f"{url}/models")
            models = [model["id"] for model in msgspec.json.decode(response.content)["data"]]
    except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise TargetError(name=name, detail=f"{url}/models returned no list of models: {error}") from error
    if not models:
        raise TargetError(name=name, detail="it lists no model")
    return models


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
