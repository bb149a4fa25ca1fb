"""The service's end of a worker process: start it, exchange frames, detect failures, and stop it."""

import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar, cast

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
from cupola.messages import Embeddings, GenerateRequest, SessionReport, TurnFinished, TurnText
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
from cupola.worker.launch import Interpreter, describe_exit, detached, stderr_tail

T = TypeVar("T")

_GRACE_S = 5.0
_RECEIVE_BYTES = 1 << 16


class Mailbox(Generic[T]):
    """The events of one turn, in order. Text that is not read in time is merged.

    A slow reader therefore needs memory for at most one answer, and never blocks the worker.
    """

    def __init__(self) -> None:
        self._events: deque[T | CupolaError] = deque()
        self._arrived = anyio.Event()

    def put(self, event: T | CupolaError) -> None:
        """Add an event. An error is raised to the reader."""
        last = self._events[-1] if self._events else None
        if isinstance(event, TurnText) and isinstance(last, TurnText):
            merged = TurnText(
                event.turn, last.text + event.text, last.tokens + event.tokens, last.logprobs + event.logprobs
            )
            self._events[-1] = cast("T", merged)
        else:
            self._events.append(event)
        self._arrived.set()

    async def get(self) -> T:
        """Wait for the next event and return it.

        Raises:
            CupolaError: The next entry is this error.
        """
        while not self._events:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event = self._events.popleft()
        if isinstance(event, CupolaError):
            raise event
        return event


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """How to start a worker.

    Attributes:
        load: The model to load.
        environment: Additional environment variables.
        without: Environment variables that it must not inherit, because they hold keys.
        interpreter: The Python interpreter.
        load_timeout_s: Time limit for starting and loading.
        step_timeout_s: Time limit without a frame while turns are running.
        queue_limit: How many turns may wait, besides those that share a step.
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
    """A turn that the worker has accepted."""

    id: int
    prompt_tokens: int
    mailbox: Mailbox[TurnEvent]


class Worker:
    """A worker process with a loaded model. `open_worker` starts and stops it."""

    def __init__(self, spec: WorkerSpec, process: Process, stream: ByteStream, folder: Path) -> None:
        self._spec = spec
        self._process = process
        self._stream = stream
        self._folder = folder
        self._frames: FrameReader[FromWorker] = FrameReader(FromWorker)  # type: ignore[arg-type]
        self._sending = anyio.Lock()
        self._mailboxes: dict[int, Mailbox[TurnEvent]] = {}
        self._questions: dict[int, Mailbox[Tokens | Text | Embeddings]] = {}
        self._last_turn = 0
        self._watch = anyio.CancelScope()
        self._closing: CupolaError | None = None
        self.report: SessionReport

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def load(self) -> None:
        """Load the model. Called once, before everything else.

        Raises:
            LoadError: Loading failed or exceeded the time limit.
            CupolaError: Another error of the provider, such as `ModelFormatError`.
        """
        model = self._spec.load.model
        try:
            with anyio.fail_after(self._spec.load_timeout_s):
                await self._send(self._spec.load)
                reply = await self._first_frame()
        except TimeoutError:
            limit = f"not loaded within {self._spec.load_timeout_s:g} s; raise worker.load_timeout_s"
            raise LoadError(model=model, detail=limit) from None
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            raise LoadError(model=model, detail=f"its worker process ended: {await self._describe_end()}") from None
        if isinstance(reply, LoadFailed):
            raise from_wire(reply.error)
        if not isinstance(reply, SessionReport):
            raise LoadError(model=model, detail=f"its worker replied with a {type(reply).__name__}")
        self.report = reply

    async def run(self) -> None:
        """Deliver events until the worker is closed. When this ends, all open turns fail.

        Raises:
            WorkerDiedError: The process ended unexpectedly.
            WorkerHungError: The process completed no step within the time limit and was killed.
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
            error = WorkerDiedError(model=self._spec.load.model, detail=await self._describe_end())
            raise error from None
        except (ValueError, msgspec.MsgspecError) as garbage:
            self._process.kill()
            error = WorkerError(detail=f"The worker of {self._spec.load.model!r} sent an invalid frame: {garbage}")
            raise error from garbage
        except WorkerHungError as hung:
            error = hung
            raise
        finally:
            self._closing = self._closing or error
            self._fail_open_turns(error)

    async def submit(self, request: GenerateRequest) -> WorkerTurn:
        """Start a turn and wait until its prompt is accepted. Cancellation cancels the turn.

        Raises:
            QueueFullError: The queue is full.
            RequestError: The prompt is too long or cannot be rendered.
            WorkerError: The worker ended.
        """
        if self._closing:
            raise copy(self._closing)
        if len(self._mailboxes) >= self.report.capacity + self._spec.queue_limit:
            raise QueueFullError(model=self._spec.load.model, limit=self._spec.queue_limit)
        self._last_turn += 1
        turn, mailbox = self._last_turn, Mailbox[TurnEvent]()
        self._start_watchdog()
        self._mailboxes[turn] = mailbox
        try:
            await self._send(Submit(turn, request))
            started = await mailbox.get()
        except BaseException:
            await self.cancel(turn)
            raise
        if not isinstance(started, TurnStarted):
            raise WorkerError(detail=f"The worker started a turn with an unexpected {type(started).__name__}.")
        return WorkerTurn(turn, started.prompt_tokens, mailbox)

    async def ask(self, question: TokenizeText | DetokenizeTokens | EmbedTexts) -> Tokens | Text | Embeddings:
        """Send a question that needs no turn, and return the answer.

        Raises:
            RequestError: The question is invalid.
            WorkerError: The worker ended.
        """
        if self._closing:
            raise copy(self._closing)
        self._last_turn += 1
        ask, mailbox = Ask(self._last_turn, question), Mailbox[Tokens | Text | Embeddings]()
        self._start_watchdog()
        self._questions[ask.id] = mailbox
        try:
            await self._send(ask)
            return await mailbox.get()
        finally:
            self._questions.pop(ask.id, None)

    async def cancel(self, turn: int) -> None:
        """Cancel a turn within one step and drop its further events. Has no effect on a finished turn."""
        if self._mailboxes.pop(turn, None) is not None:
            await self._send(Cancel(turn))

    async def close(self, reason: CupolaError) -> None:
        """Let the worker exit, and fail open turns with `reason`. `run` returns when it has ended."""
        self._closing = self._closing or reason
        self._fail_open_turns(reason)
        self._watch.deadline = anyio.current_time() + _GRACE_S
        await self._stream.aclose()

    async def end(self) -> None:
        """Stop the process and clean up. Kills it after a grace period."""
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
        """Send a complete frame. Shielded from cancellation, because a partial frame would break all turns."""
        with anyio.CancelScope(shield=True):
            async with self._sending:
                try:
                    await self._stream.send(encode(message))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return  # the reader reports the end of the worker, with the reason

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
                elif isinstance(frame, Reply) and (mailbox := self._questions.pop(frame.id, None)):
                    mailbox.put(from_wire(frame.answer) if isinstance(frame.answer, WireError) else frame.answer)
            busy = self._mailboxes or self._questions
            self._watch.deadline = anyio.current_time() + limit if busy else math.inf

    def _dispatch(self, event: TurnEvent) -> None:
        mailbox = self._mailboxes.get(event.turn)
        if mailbox is None:
            return  # cancelled by its reader before the worker knew
        if isinstance(event, TurnFailed | TurnFinished):
            del self._mailboxes[event.turn]
        mailbox.put(from_wire(event.error) if isinstance(event, TurnFailed) else event)

    def _start_watchdog(self) -> None:
        """Start the watchdog, unless it is running for other turns."""
        if not (self._mailboxes or self._questions):
            self._watch.deadline = anyio.current_time() + self._spec.step_timeout_s

    def _fail_open_turns(self, error: CupolaError) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.put(copy(error))
        for question in self._questions.values():
            question.put(copy(error))
        self._mailboxes.clear()
        self._questions.clear()

    async def _describe_end(self) -> str:
        """Describe how the process ended, with the end of its error output."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GRACE_S):
            await self._process.wait()
        code = self._process.returncode
        how = "it closed its connection" if code is None else describe_exit(code)
        return "; ".join([how, *stderr_tail(self._folder / "stderr")])


@asynccontextmanager
async def open_worker(spec: WorkerSpec) -> AsyncIterator[Worker]:
    """Start a worker and load its model. Leaving the context stops the process.

    Raises:
        WorkerError: The process could not be started.
        LoadError: The model could not be loaded.
    """
    worker = await _spawn(spec)
    try:
        await worker.load()
        yield worker
    finally:
        await worker.end()


async def _spawn(spec: WorkerSpec) -> Worker:
    """Start the process in a private folder and a separate session, so that it receives no signals of the terminal."""
    folder = Path(tempfile.mkdtemp(prefix="cupola-worker-"))
    ours, theirs = socket.socketpair()
    share = sys.platform == "win32"  # sockets cannot be inherited by number there
    command = spec.interpreter.command("cupola.worker.child", "-" if share else str(theirs.fileno()))
    try:
        with theirs, (folder / "stderr").open("wb") as stderr:
            process = await anyio.open_process(
                [*command, str(os.getpid()), str(spec.step_timeout_s)],
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
                detail=f"Could not start a worker process with {spec.interpreter.python}: {error}"
            ) from error
        raise
    return Worker(spec, process, stream, folder)
