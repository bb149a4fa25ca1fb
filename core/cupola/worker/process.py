"""The service's end of a worker process: spawn it, speak with it, notice when it fails, end it."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import ByteStream, Process, SocketStream, UNIXSocketStream

from cupola.errors import (
    CupolaError,
    LoadError,
    QueueFullError,
    WireError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
    from_wire,
)
from cupola.messages import Embeddings, GenerateRequest, SessionReport, TurnFinished
from cupola.protocol import (
    Ask,
    Cancel,
    DetokenizeTokens,
    EmbedTexts,
    FromWorker,
    Load,
    LoadFailed,
    Reply,
    Step,
    Submit,
    Text,
    TokenizeText,
    Tokens,
    ToWorker,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from cupola.worker.frames import FrameReader, encode
from cupola.worker.interpreter import Interpreter
from cupola.worker.mailbox import Mailbox

_GRACE_S = 5.0
_STDERR_TAIL_BYTES = 2000
_RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """How to start a worker.

    Attributes:
        load: What it loads.
        environment: Variables that must be set before the process starts, beside the service's own.
        without: Variables of the service that it does not get, for they hold keys.
        interpreter: What runs it.
        load_timeout_s: Time for starting and loading.
        step_timeout_s: Longest time without a frame while turns run.
        queue_limit: Turns that may wait, beside those that share a step.
    """

    load: Load
    environment: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    interpreter: Interpreter = field(default_factory=Interpreter)
    load_timeout_s: float = 600.0
    step_timeout_s: float = 120.0
    queue_limit: int = 64


@dataclass(frozen=True, slots=True)
class WorkerTurn:
    """A turn that the worker accepted."""

    id: int
    prompt_tokens: int
    mailbox: Mailbox[TurnEvent]


class Worker:
    """A worker process with its model loaded. Opened by `open_worker`, which also ends it."""

    def __init__(self, spec: WorkerSpec, process: Process, stream: ByteStream, folder: Path) -> None:
        self._spec = spec
        self._process = process
        self._stream = stream
        self._folder = folder
        self._frames: FrameReader[FromWorker] = FrameReader(FromWorker)  # type: ignore[arg-type]
        self._sending = anyio.Lock()
        self._mailboxes: dict[int, Mailbox[TurnEvent]] = {}
        self._asked: dict[int, Mailbox[Tokens | Text | Embeddings]] = {}
        self._last_turn = 0
        self._watch = anyio.CancelScope()
        self._closing: CupolaError | None = None
        self.report: SessionReport

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def load(self) -> None:
        """Have the model loaded. Called once, first.

        Raises:
            LoadError: It failed, or took longer than the limit.
            CupolaError: What else the provider had to say, such as `ModelFormatError`.
        """
        model = self._spec.load.model
        try:
            with anyio.fail_after(self._spec.load_timeout_s):
                await self._send(self._spec.load)
                answer = await self._first_frame()
        except TimeoutError:
            limit = f"not loaded within {self._spec.load_timeout_s:g} s; raise worker.load_timeout_s"
            raise LoadError(model=model, detail=limit) from None
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            raise LoadError(model=model, detail=f"its worker process ended: {await self._obituary()}") from None
        if isinstance(answer, LoadFailed):
            raise from_wire(answer.error)
        if not isinstance(answer, SessionReport):
            raise LoadError(model=model, detail=f"its worker answered with a {type(answer).__name__}")
        self.report = answer

    async def run(self) -> None:
        """Deliver events until the worker is closed. Every open turn ends with an error when this does.

        Raises:
            WorkerDiedError: The process ended by itself.
            WorkerHungError: It made no step within the limit; it is killed.
        """
        error: CupolaError = WorkerError(detail=f"The worker of {self._spec.load.model!r} was stopped.")
        try:
            with anyio.CancelScope() as self._watch:
                await self._deliver()
            if self._watch.cancelled_caught:
                self._process.kill()
                raise WorkerHungError(model=self._spec.load.model, limit_s=self._spec.step_timeout_s)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            if self._closing:
                error = self._closing
                return
            error = WorkerDiedError(model=self._spec.load.model, detail=await self._obituary())
            raise error from None
        except (ValueError, msgspec.MsgspecError) as garbage:
            self._process.kill()
            error = WorkerError(detail=f"The worker of {self._spec.load.model!r} sent what is not a frame: {garbage}")
            raise error from garbage
        except WorkerHungError as hung:
            error = hung
            raise
        finally:
            self._closing = self._closing or error
            self._give_up(error)

    async def submit(self, request: GenerateRequest) -> WorkerTurn:
        """Start a turn; returns when its prompt was accepted. Cancelling withdraws it.

        Raises:
            QueueFullError: Too many wait already.
            RequestError: The prompt does not fit or cannot be rendered.
            WorkerError: The worker ended.
        """
        if self._closing:
            raise copy(self._closing)
        if len(self._mailboxes) >= self.report.capacity + self._spec.queue_limit:
            raise QueueFullError(model=self._spec.load.model, limit=self._spec.queue_limit)
        self._last_turn += 1
        turn, mailbox = self._last_turn, Mailbox[TurnEvent]()
        self._watch_from_now()
        self._mailboxes[turn] = mailbox
        try:
            await self._send(Submit(turn, request))
            started = await mailbox.get()
        except BaseException:
            await self.cancel(turn)
            raise
        if not isinstance(started, TurnStarted):
            raise WorkerError(detail=f"The worker began a turn with a {type(started).__name__}.")
        return WorkerTurn(turn, started.prompt_tokens, mailbox)

    async def ask(self, question: TokenizeText | DetokenizeTokens | EmbedTexts) -> Tokens | Text | Embeddings:
        """Ask something that needs no turn.

        Raises:
            RequestError: It cannot be answered.
            WorkerError: The worker ended.
        """
        if self._closing:
            raise copy(self._closing)
        self._last_turn += 1
        ask, mailbox = Ask(self._last_turn, question), Mailbox[Tokens | Text | Embeddings]()
        self._watch_from_now()
        self._asked[ask.id] = mailbox
        try:
            await self._send(ask)
            return await mailbox.get()
        finally:
            self._asked.pop(ask.id, None)

    async def cancel(self, turn: int) -> None:
        """End a turn within one step; its further events are dropped. Harmless when it is over."""
        if self._mailboxes.pop(turn, None) is not None:
            await self._send(Cancel(turn))

    async def close(self, reason: CupolaError) -> None:
        """Let the worker end by itself; open turns end with `reason`. `run` returns when it did."""
        self._closing = self._closing or reason
        self._give_up(reason)
        self._watch.deadline = anyio.current_time() + _GRACE_S
        await self._stream.aclose()

    async def end(self) -> None:
        """End the process for good and free what it held. Waits for it a little, then kills it."""
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()
            with anyio.move_on_after(_GRACE_S if self._closing else 0):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await self._process.aclose()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _send(self, message: ToWorker) -> None:
        """Send a whole frame: half of one would cut off all turns, so cancellation waits for the rest."""
        with anyio.CancelScope(shield=True):
            async with self._sending:
                try:
                    await self._stream.send(encode(message))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return  # whoever reads learns of the end, with its reason

    async def _first_frame(self) -> FromWorker:
        while True:
            for frame in self._frames.feed(await self._stream.receive(_RECEIVE_BYTES)):
                return frame

    async def _deliver(self) -> None:
        limit = self._spec.step_timeout_s
        while True:
            for frame in self._frames.feed(await self._stream.receive(_RECEIVE_BYTES)):
                if isinstance(frame, Step):
                    for event in frame.events:
                        self._dispatch(event)
                elif isinstance(frame, Reply) and (asked := self._asked.pop(frame.id, None)):
                    asked.put(from_wire(frame.answer) if isinstance(frame.answer, WireError) else frame.answer)
            busy = self._mailboxes or self._asked
            self._watch.deadline = anyio.current_time() + limit if busy else math.inf

    def _dispatch(self, event: TurnEvent) -> None:
        mailbox = self._mailboxes.get(event.turn)
        if mailbox is None:
            return  # cancelled by its reader; the worker did not know yet
        if isinstance(event, TurnFailed | TurnFinished):
            del self._mailboxes[event.turn]
        mailbox.put(from_wire(event.error) if isinstance(event, TurnFailed) else event)

    def _watch_from_now(self) -> None:
        """Begin to expect signs of life, unless something else is expected already."""
        if not (self._mailboxes or self._asked):
            self._watch.deadline = anyio.current_time() + self._spec.step_timeout_s

    def _give_up(self, error: CupolaError) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.put(copy(error))
        for asked in self._asked.values():
            asked.put(copy(error))
        self._mailboxes.clear()
        self._asked.clear()

    async def _obituary(self) -> str:
        """Say how the process ended, with the last of what it wrote to stderr."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GRACE_S):
            await self._process.wait()
        code = self._process.returncode
        how = "it closed its connection" if code is None else ending(code)
        return "; ".join([how, *last_words(self._folder / "stderr")])


@asynccontextmanager
async def open_worker(spec: WorkerSpec) -> AsyncIterator[Worker]:
    """Start a worker and load its model; leaving ends the process.

    Raises:
        WorkerError: The process could not be started.
        LoadError: It could not load the model.
    """
    worker = await _spawn(spec)
    try:
        await worker.load()
        yield worker
    finally:
        await worker.end()


async def _spawn(spec: WorkerSpec) -> Worker:
    """Start the process in a private folder and a session of its own, out of reach of the terminal's signals."""
    folder = Path(tempfile.mkdtemp(prefix="cupola-worker-"))
    ours, theirs = socket.socketpair()
    share = sys.platform == "win32"  # sockets cannot be inherited by number there
    words = spec.interpreter.command("cupola.worker.child", "-" if share else str(theirs.fileno()))
    try:
        with theirs, (folder / "stderr").open("wb") as stderr:
            process = await anyio.open_process(
                [*words, str(os.getpid()), str(spec.step_timeout_s)],
                stdin=subprocess.PIPE if share else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=folder,
                env={**{k: v for k, v in os.environ.items() if k not in spec.without}, **spec.environment},
                **detached(theirs),
            )
            if sys.platform == "win32" and process.stdin:
                await process.stdin.send(theirs.share(process.pid))
                await process.stdin.aclose()
        stream: ByteStream = await (
            UNIXSocketStream.from_socket(ours)
            if ours.family is getattr(socket, "AF_UNIX", None)
            else SocketStream.from_socket(ours)
        )
    except BaseException as error:
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise WorkerError(
                detail=f"No worker process could be started with {spec.interpreter.python}: {error}"
            ) from error
        raise
    return Worker(spec, process, stream, folder)


def detached(*inherited: socket.socket) -> dict[str, Any]:
    """Return the arguments that let a child inherit sockets and keep the terminal's signals from it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True, "pass_fds": [each.fileno() for each in inherited]}


def ending(code: int) -> str:
    """Say how a process ended, from its exit code."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def last_words(file: Path) -> list[str]:
    """Return the end of what a process wrote to a file, as an item of a sentence; nothing if it wrote nothing."""
    try:
        text = file.read_bytes()[-_STDERR_TAIL_BYTES:].decode("utf-8", "replace").strip()
    except OSError:
        return []
    return [f"its last words: {text}"] if text else []
