"""The contract of what is measured."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.messages import ChatPrompt, GenerateRequest, Sampling, TurnFinished, TurnText
from cupola_server.bench.client import Answer
from cupola_server.bench.prompts import Prompt

if TYPE_CHECKING:
    from cupola.engine import Engine
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import httpx
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from cupola.client.api import LoadedModel, LoadedModels
from cupola.messages import SessionReport
from cupola_server.bench.client import ChatClient
from cupola_server.bench.errors import PeerError


@dataclass(frozen=True, slots=True)
class Started:
    """What a target told when it was ready.

    Attributes:
        load_s: How long it took from starting to being ready.
        roots: Its processes; those below them are its own as well. Empty where they cannot be seen.
        alone: Processes of its own without those below them.
        versions: Of the packages that make the difference.
        settings: What it runs with.
    """

    load_s: float
    roots: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


class Target(ABC):
    """One of those that are compared.

    Attributes:
        name: Unique in a run, the same in the next one.
        title: For tables and charts.
        model: The model's id or, where only the peer knows it, its name there.
        note: What a reader must know about it.
        streams_limit: Most answers at a time; None for no limit.
    """

    name: str
    title: str
    model: str
    note: str = ""
    streams_limit: int | None = None

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Started]:
        """Start it and wait until it answers; leaving stops it.

        Raises:
            CupolaError: It cannot be measured here; the sentence says why.
        """

    @abstractmethod
    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Have one prompt answered greedily, with so many tokens if it can be told to.

        Raises:
            CupolaError: It failed.
        """


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


START_S = 180.0
_GRACE_S = 15.0
_LINE_BYTES = 1 << 20
_TAIL_BYTES = 600


class ServerProcess:
    """Started on entering, ended on leaving: standard input is closed, then it is asked to end, then it is killed.

    Args:
        name: Of the target, for errors.
        command: Program and arguments.
        environment: Variables beside our own.
        folder: Where it runs.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] = {}, folder: Path | None = None
    ) -> None:
        self._name, self._command, self._folder = name, list(command), folder
        self._environment = {**os.environ, **environment}
        self._process: Process
        self._lines: BufferedByteReceiveStream

    async def __aenter__(self) -> Self:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        try:
            self._process = await anyio.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise PeerError(name=self._name, detail=f"{self._command[0]} cannot be started: {error}") from error
        assert self._process.stdout
        self._lines = BufferedByteReceiveStream(self._process.stdout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            assert self._process.stdin
            await self._process.stdin.aclose()
            for wait_s, end in ((0.5, self._process.terminate), (_GRACE_S, self._process.kill)):
                with anyio.move_on_after(wait_s):
                    await self._process.wait()
                if self._process.returncode is None:
                    end()
            await self._process.wait()
            await self._process.aclose()
            self._log.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def send(self, line: bytes) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin
        await self._process.stdin.send(line + b"\n")

    async def line(self, within_s: float = START_S) -> str:
        """Return its next line.

        Raises:
            PeerError: It ended, or said nothing for too long; with its last words.
        """
        try:
            with anyio.fail_after(within_s):
                return (await self._lines.receive_until(b"\n", _LINE_BYTES)).decode("utf-8", "replace")
        except TimeoutError:
            detail = f"it said nothing for {within_s:g} s. {self.last_words()}"
            raise PeerError(name=self._name, detail=detail) from None
        except (anyio.IncompleteRead, anyio.EndOfStream):
            raise PeerError(name=self._name, detail=f"it ended. {self.last_words()}") from None

    def ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return self._process.returncode is not None

    def last_words(self) -> str:
        """Return the end of what it wrote to standard error."""
        self._log.seek(0)
        text = self._log.read()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        return f"Its last words: {text}" if text else "It gave no reason."


def settings_of(loaded: SessionReport | LoadedModel) -> dict[str, str]:
    """Say what a loaded model runs with; what is unknown is left out."""
    told = {
        "provider": loaded.provider,
        "session": loaded.kind if isinstance(loaded, SessionReport) else loaded.session,
        "layout": loaded.layout,
        "threads": str(loaded.threads or ""),
        "capacity": str(loaded.capacity),
    }
    return {name: value for name, value in told.items() if value}
