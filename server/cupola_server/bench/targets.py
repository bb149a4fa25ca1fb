"""Targets, the things that a benchmark measures: the contract, the engine in this process, and `cupola serve`."""

import os
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import httpx
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from cupola.client.api import LoadedModel, LoadedModels
from cupola.messages import ChatPrompt, GenerateRequest, Sampling, SessionReport, TurnFinished, TurnText
from cupola_server.bench.client import ChatClient, TimedResponse
from cupola_server.bench.errors import TargetError
from cupola_server.bench.prompts import Prompt

if TYPE_CHECKING:
    from cupola.engine import Engine

START_TIMEOUT_S = 180.0
_CLOSE_GRACE_S, _TERMINATE_GRACE_S = 0.5, 15.0
_MAX_LINE_BYTES = 1 << 20
_MAX_ERROR_OUTPUT_BYTES = 600


@dataclass(frozen=True, slots=True)
class Startup:
    """What a target reports once it is ready.

    Attributes:
        load_s: Seconds from the start of the target until it is ready.
        process_trees: Ids of its processes whose descendants belong to it as well; empty where they cannot be seen.
        processes: Ids of its processes without their descendants.
        versions: Versions of the packages that influence its speed, by name.
        settings: The settings it runs with, by name.
    """

    load_s: float
    process_trees: tuple[int, ...] = ()
    processes: tuple[int, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


class Target(ABC):
    """One participant of a benchmark: a model behind some interface, with some settings.

    Attributes:
        name: Identifies the target in the result, the same in every run.
        title: Name for tables and charts.
        model: The model's id or, where only the peer knows it, its name there.
        note: A remark for readers of the report.
        max_streams: Most requests at a time; None for no limit.
    """

    name: str
    title: str
    model: str
    note: str = ""
    max_streams: int | None = None

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Startup]:
        """Start the target and wait until it is ready; leaving the context stops it.

        Raises:
            CupolaError: It cannot be measured on this machine; the message says why.
        """

    @abstractmethod
    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Generate greedily, exactly `new_tokens` tokens where the target can ignore the end of sequence.

        Raises:
            CupolaError: The request failed.
        """


class EngineTarget(Target):
    """A model in the engine of this process: the same engine and worker as in the service, without HTTP and JSON.

    Args:
        name: Identifies the target.
        title: Name for tables and charts.
        model: The model's id.
        open_engine: Opens an engine with the settings to measure.

    Attributes:
        engine: The engine while the target is open, else None.
    """

    def __init__(
        self, name: str, title: str, model: str, open_engine: "Callable[[], AbstractAsyncContextManager[Engine]]"
    ) -> None:
        self.name, self.title, self.model = name, title, model
        self._open_engine = open_engine
        self.engine: Engine | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Startup]:
        """Open the engine and load the model; only loading counts as start-up time."""
        async with self._open_engine() as engine:
            self.engine = engine
            started = time.perf_counter()
            status = await engine.load(self.model, ttl_s=0)
            load_s = time.perf_counter() - started
            try:
                yield Startup(load_s, (status.pid,), (os.getpid(),), settings=describe_settings(status.report))
            finally:
                self.engine = None

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
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
        return TimedResponse(
            sent_at, times, ended_at, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
        )


class ServiceTarget(Target):
    """A model served over HTTP by `cupola serve` in a process of its own.

    Args:
        name: Identifies the target.
        title: Name for tables and charts.
        model: The model's id.
        command: Command line of the program `cupola`, with its global options.
    """

    def __init__(self, name: str, title: str, model: str, command: Sequence[str]) -> None:
        self.name, self.title, self.model = name, title, model
        self._command = [*command, "serve", "--port", "0", "--preload", model]
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Startup]:
        """Start the service with the model loaded."""
        started = time.perf_counter()
        async with ServerProcess(self.name, self._command) as process:
            url = (await process.read_line()).rpartition(" ")[2].strip()
            self._client = ChatClient(self.name, f"{url}/v1", self.model, {"ignore_eos": True})
            load_s = time.perf_counter() - started
            yield Startup(load_s, (process.pid,), settings=await self._fetch_settings(url))

    async def generate(self, prompt: Prompt, new_tokens: int) -> TimedResponse:
        """Send one request over HTTP."""
        return await self._client.generate(prompt, new_tokens)

    async def _fetch_settings(self, url: str) -> dict[str, str]:
        """Return the settings of the loaded model; raises `TargetError` if the service could not load it."""
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            response = msgspec.json.decode((await client.get("/cupola/ps")).content, type=LoadedModels)
        if not response.models:
            raise TargetError(
                name=self.name,
                detail=f"the service did not load the model. To see why, run: cupola serve --preload {self.model}",
            )
        return describe_settings(response.models[0])


class ServerProcess:
    """A server process, started on entering the context and stopped on leaving it.

    To stop it, its standard input is closed, then it is terminated after 0.5 s, and killed after 15 s more.

    Args:
        name: The target's name, for errors.
        command: Program and arguments.
        environment: Variables beside those of this process.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] = {}) -> None:
        self._name, self._command = name, list(command)
        self._environment = {**os.environ, **environment}
        self._process: Process
        self._lines: BufferedByteReceiveStream

    async def __aenter__(self) -> Self:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        try:
            self._process = await anyio.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise TargetError(name=self._name, detail=f"{self._command[0]} cannot be started: {error}") from error
        assert self._process.stdout
        self._lines = BufferedByteReceiveStream(self._process.stdout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            assert self._process.stdin
            await self._process.stdin.aclose()
            for grace_s, end in ((_CLOSE_GRACE_S, self._process.terminate), (_TERMINATE_GRACE_S, self._process.kill)):
                with anyio.move_on_after(grace_s):
                    await self._process.wait()
                if self._process.returncode is None:
                    end()
            await self._process.wait()
            await self._process.aclose()
            self._stderr.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process.returncode is not None

    async def write_line(self, line: bytes) -> None:
        """Write a line to the standard input of the process."""
        assert self._process.stdin
        await self._process.stdin.send(line + b"\n")

    async def read_line(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """Return the next line of its standard output.

        Raises:
            TargetError: The process ended, or wrote no line before the timeout; with the end of its standard error.
        """
        try:
            with anyio.fail_after(timeout_s):
                return (await self._lines.receive_until(b"\n", _MAX_LINE_BYTES)).decode("utf-8", "replace")
        except TimeoutError:
            detail = f"it wrote nothing for {timeout_s:g} s. {self.error_output()}"
            raise TargetError(name=self._name, detail=detail) from None
        except (anyio.IncompleteRead, anyio.EndOfStream):
            raise TargetError(name=self._name, detail=f"its process ended. {self.error_output()}") from None

    def error_output(self) -> str:
        """Return a sentence with the end of what the process wrote to its standard error."""
        self._stderr.seek(0)
        text = self._stderr.read()[-_MAX_ERROR_OUTPUT_BYTES:].decode("utf-8", "replace").strip()
        return f"Its error output: {text}" if text else "It wrote no error output."


def describe_settings(model: SessionReport | LoadedModel) -> dict[str, str]:
    """Return the settings that a loaded model runs with, by name, without those that are unknown."""
    settings = {
        "provider": model.provider,
        "session": model.kind if isinstance(model, SessionReport) else model.session,
        "layout": model.layout,
        "threads": str(model.threads or ""),
        "capacity": str(model.capacity),
    }
    return {name: value for name, value in settings.items() if value}
