"""A chat with a model: one prompt and its answer, or a conversation at the terminal."""

import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import anyio
import click

from cupola.contracts import EngineView
from cupola.errors import ContextLengthExceededError, CupolaError
from cupola.messages import (
    ChatPrompt,
    GenerateRequest,
    Message,
    Sampling,
    TurnCall,
    TurnFinished,
    TurnReasoning,
    TurnText,
)
from cupola.settings import Settings
from cupola_server.cli.errors import root_cause
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.ui.progress import LOADING, show_progress
from cupola_server.cli.ui.terminal import PromptTerminal, Terminal, strip_control_characters

Write = Callable[[str], Awaitable[None]]

HELP = """\
/clear          forget the conversation
/system [TEXT]  show the system message, or set it and start a new conversation
/help           show this help
/exit           leave the chat, as does Ctrl+D
Ctrl+C stops an answer. Alt+Enter starts a new line."""


class TurnEvents(Protocol):
    """The events of a running turn."""

    def __aiter__(self) -> AsyncIterator[TurnText | TurnReasoning | TurnCall | TurnFinished]:
        """Iterate over the events; the last one is `TurnFinished`."""


class ChatBackend(Protocol):
    """Runs the turns of a chat: an engine in this process, or a service."""

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[TurnEvents]:
        """Run a turn. Leaving the context early cancels it."""


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """How an answer ended.

    Attributes:
        event: The last event of the turn.
        first_token_s: Seconds until the first event.
        total_s: Seconds until the last event.
    """

    event: TurnFinished
    first_token_s: float
    total_s: float

    def summary(self) -> str:
        """Return the token usage and the speed on one line."""
        tokens = self.event.usage.completion_tokens
        decode_s = self.total_s - self.first_token_s
        speed = f", {(tokens - 1) / decode_s:.0f} tokens/s" if tokens > 1 and decode_s > 0 else ""
        return (
            f"{self.event.usage.prompt_tokens} tokens in, {tokens} out, "
            f"first after {self.first_token_s:.2f} s{speed}, ended by {self.event.reason}"
        )


class ChatSession:
    """The conversation so far, the options of its requests, and the slash commands that change both.

    Attributes:
        model: The model's name as the user typed it.
        ended: Whether the user left the chat.
    """

    def __init__(
        self,
        model: str,
        *,
        system: str = "",
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        ttl_s: float | None = None,
    ) -> None:
        self.model = model
        self.ended = False
        self._system = system
        self._sampling = sampling or Sampling()
        self._max_tokens = max_tokens
        self._ttl_s = ttl_s
        self._messages: list[Message] = []

    def request(self, prompt: str) -> GenerateRequest:
        """Return the request that continues the conversation with a prompt."""
        system = [Message("system", self._system)] if self._system else []
        return GenerateRequest(
            model=self.model,
            prompt=ChatPrompt((*system, *self._messages, Message("user", prompt))),
            sampling=self._sampling,
            max_tokens=self._max_tokens,
            ttl_s=self._ttl_s,
        )

    def record(self, prompt: str, answer: str) -> None:
        """Add a prompt and its answer to the conversation, unless the answer is empty."""
        if answer:
            self._messages += [Message("user", prompt), Message("assistant", answer)]

    def forget_oldest(self) -> bool:
        """Remove the oldest prompt and its answer; returns whether there was one."""
        had_any = bool(self._messages)
        del self._messages[:2]
        return had_any

    def command(self, line: str) -> str:
        """Execute a slash command and return the message for the user."""
        name, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        match name.lower():
            case "/exit" | "/quit" | "/bye":
                self.ended = True
                return ""
            case "/help" | "/?":
                return HELP
            case "/clear":
                self._messages.clear()
                return "The conversation was cleared."
            case "/system" if argument:
                self._system = argument
                self._messages.clear()
                return "The system message was set and a new conversation started."
            case "/system":
                return self._system or "No system message is set."
        return (
            f"Unknown command {name}. /help lists the commands. To send this line to the model, start it with a space."
        )


async def write_answer(backend: ChatBackend, request: GenerateRequest, write: Write) -> AnswerResult:
    """Run a turn and write its text as it is generated. Cancelling this cancels the turn."""
    started = time.perf_counter()
    first_s: float | None = None
    finished: TurnFinished | None = None
    async with backend.generate(request) as events:
        async for event in events:
            if first_s is None:
                first_s = time.perf_counter() - started
            if isinstance(event, TurnText):
                await write(event.text)
            elif isinstance(event, TurnFinished):
                finished = event
    total_s = time.perf_counter() - started
    if finished is None:
        raise AssertionError("a generation ends with TurnFinished or raises")
    return AnswerResult(finished, first_s or total_s, total_s)


async def run_once(invocation: Invocation, settings: Settings, session: ChatSession, prompt: str) -> None:
    """Answer one prompt on stdout; all other messages go to stderr."""
    is_terminal = sys.stdout.isatty()
    last = ""

    async def write(text: str) -> None:
        nonlocal last
        last = text or last
        shown = strip_control_characters(text) if is_terminal else text
        # In a thread, because a slow reader (`| less`) must not block the engine.
        await anyio.to_thread.run_sync(lambda: click.echo(shown, nl=False))

    async with invocation.engine(settings) as engine:
        await ensure_loaded(engine, session.model)
        result = await write_answer(engine, session.request(prompt), write)
    if not last.endswith("\n"):
        click.echo()
    if result.event.reason == "length" and sys.stderr.isatty():
        click.echo("(The answer was cut off at its token limit.)", err=True)
    if invocation.verbose:
        click.echo(result.summary(), err=True)


async def run_chat(invocation: Invocation, settings: Settings, session: ChatSession) -> None:
    """Chat at the terminal until the user leaves."""
    async with invocation.engine(settings) as engine:
        await ensure_loaded(engine, session.model)
        status = await engine.resolve(session.model)
        terminal = PromptTerminal()
        terminal.notice(f"{status.info.id}. /help shows the commands, Ctrl+C stops an answer, /exit leaves.")
        await chat(engine, session, terminal, verbose=bool(invocation.verbose))


async def ensure_loaded(engine: EngineView, model: str) -> None:
    """Download a model if needed and load it, showing the progress."""
    status = await engine.resolve(model)
    with show_progress(status.info.alias) as progress:
        await engine.download(model, progress)
        progress(LOADING)
        await engine.load(model)


async def chat(backend: ChatBackend, session: ChatSession, terminal: Terminal, *, verbose: bool = False) -> None:
    """Answer the user's prompts until they leave. If a turn fails, its error is printed and the chat continues."""
    while not session.ended and (line := await terminal.read_prompt()) is not None:
        if line.startswith("/"):
            if reply := session.command(line):
                terminal.notice(reply)
        elif line.strip():
            await _answer_prompt(backend, session, terminal, line.strip(), verbose=verbose)


async def run_interruptible(work: Callable[[], Awaitable[None]]) -> bool:
    """Run work that Ctrl+C cancels without ending the program. On Windows Ctrl+C still ends the program.

    Returns:
        Whether it was interrupted.

    Raises:
        BaseException: The error of the work, not wrapped in an exception group.
    """
    before = signal.getsignal(signal.SIGINT)
    interrupted = False
    try:
        async with anyio.create_task_group() as group:

            async def watch(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                nonlocal interrupted
                with anyio.open_signal_receiver(signal.SIGINT) as signals:
                    task_status.started()
                    async for _ in signals:
                        interrupted = True
                        group.cancel_scope.cancel()

            if sys.platform != "win32":  # where asyncio cannot receive signals, Ctrl+C ends the program
                await group.start(watch)
            await work()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as raised:
        raise root_cause(raised) from raised
    finally:
        # Closing the receiver leaves Python's default handler, in place of the one that asyncio.run installed.
        signal.signal(signal.SIGINT, before)
    return interrupted


async def _answer_prompt(
    backend: ChatBackend, session: ChatSession, terminal: Terminal, prompt: str, *, verbose: bool
) -> None:
    parts: list[str] = []
    results: list[AnswerResult] = []

    async def write(text: str) -> None:
        parts.append(text)
        await terminal.write(text)

    async def work() -> None:
        results.append(await _answer_within_context(backend, session, terminal, prompt, write))

    try:
        with terminal.answering():
            interrupted = await run_interruptible(work)
    except CupolaError as error:
        terminal.notice(f"{_line_break(parts)}Error: {error}")
        return
    session.record(prompt, "".join(parts))
    await terminal.write("\n")
    if interrupted:
        terminal.notice("(stopped)")
    elif results and results[0].event.reason == "length":
        terminal.notice("(cut off at the token limit)")
    if verbose and results:
        terminal.notice(results[0].summary())


async def _answer_within_context(
    backend: ChatBackend, session: ChatSession, terminal: Terminal, prompt: str, write: Write
) -> AnswerResult:
    """Answer a prompt, removing the oldest exchanges while the conversation exceeds the model's context length."""
    while True:
        try:
            return await write_answer(backend, session.request(prompt), write)
        except (ContextLengthExceededError, BaseExceptionGroup) as raised:
            if not isinstance(root_cause(raised), ContextLengthExceededError) or not session.forget_oldest():
                raise
            terminal.notice("(The oldest exchange was removed because the conversation exceeds the context length.)")


def _line_break(parts: list[str]) -> str:
    return "\n" if parts and not parts[-1].endswith("\n") else ""
