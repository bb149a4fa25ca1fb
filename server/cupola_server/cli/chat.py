"""A conversation with a model: one question, or a chat at the terminal."""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
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
from cupola_server.cli.failures import cause
from cupola_server.cli.interrupts import run_interruptible
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.phases import LOADING
from cupola_server.cli.printing import printable
from cupola_server.cli.progress import shown_progress

Write = Callable[[str], Awaitable[None]]

HELP = """\
/clear          forget the conversation
/system [TEXT]  show the system message, or set it and start afresh
/help           this
/exit           leave; so does Ctrl+D
Ctrl+C stops an answer. Alt+Enter begins a new line."""


class Terminal(Protocol):
    """Where a chat takes place."""

    async def ask(self) -> str | None:
        """Read what the user says; None when they leave."""

    def answering(self) -> AbstractContextManager[None]:
        """Enter for the length of an answer; what is typed meanwhile waits for the next `ask`."""

    async def write(self, text: str) -> None:
        """Write a piece of an answer."""

    def notice(self, text: str) -> None:
        """Say something about the chat, on lines of its own."""


class Answer(Protocol):
    """A turn under way."""

    def __aiter__(self) -> AsyncIterator[TurnText | TurnReasoning | TurnCall | TurnFinished]:
        """Iterate over its events; the last one is `TurnFinished`."""


class Answerer(Protocol):
    """Who answers: an engine in this process, or a service."""

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[Answer]:
        """Run a turn; leaving it early cancels it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How an answer ended."""

    event: TurnFinished
    first_token_s: float
    total_s: float

    def summary(self) -> str:
        """Return the counts and the speed in one line."""
        tokens = self.event.usage.completion_tokens
        decode_s = self.total_s - self.first_token_s
        speed = f", {(tokens - 1) / decode_s:.0f} tokens/s" if tokens > 1 and decode_s > 0 else ""
        return (
            f"{self.event.usage.prompt_tokens} tokens in, {tokens} out, "
            f"first after {self.first_token_s:.2f} s{speed}, ended by {self.event.reason}"
        )


class ChatSession:
    """What was said so far, how the next answer is asked for, and the commands that change either.

    Attributes:
        model: The model's name, as the user gave it.
        ended: The user wants to leave.
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
        self._said: list[Message] = []

    def request(self, question: str) -> GenerateRequest:
        """Return the turn that answers a question after everything said before."""
        system = [Message("system", self._system)] if self._system else []
        return GenerateRequest(
            model=self.model,
            prompt=ChatPrompt((*system, *self._said, Message("user", question))),
            sampling=self._sampling,
            max_tokens=self._max_tokens,
            ttl_s=self._ttl_s,
        )

    def record(self, question: str, answer: str) -> None:
        """Remember an exchange. One without any answer is as if it never happened."""
        if answer:
            self._said += [Message("user", question), Message("assistant", answer)]

    def forget_oldest(self) -> bool:
        """Drop the oldest exchange; False if there is none."""
        had_any = bool(self._said)
        del self._said[:2]
        return had_any

    def command(self, line: str) -> str:
        """Obey a line that begins with a slash and return what to tell the user."""
        name, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        match name.lower():
            case "/exit" | "/quit" | "/bye":
                self.ended = True
                return ""
            case "/help" | "/?":
                return HELP
            case "/clear":
                self._said.clear()
                return "The conversation is forgotten."
            case "/system" if argument:
                self._system = argument
                self._said.clear()
                return "The system message is set, and the conversation starts afresh."
            case "/system":
                return self._system or "There is no system message."
        return f"There is no command {name}. /help lists them; put a space first to send such a line to the model."


async def answer(engine: Answerer, request: GenerateRequest, write: Write) -> Finished:
    """Run one turn and write its text as it comes. Cancelling this cancels the turn."""
    started = time.perf_counter()
    first_s: float | None = None
    finished: TurnFinished | None = None
    async with engine.generate(request) as generation:
        async for event in generation:
            if first_s is None:
                first_s = time.perf_counter() - started
            if isinstance(event, TurnText):
                await write(event.text)
            elif isinstance(event, TurnFinished):
                finished = event
    total_s = time.perf_counter() - started
    if finished is None:
        raise AssertionError("a generation ends with TurnFinished or raises")
    return Finished(finished, first_s or total_s, total_s)


async def run_once(invocation: Invocation, settings: Settings, session: ChatSession, question: str) -> None:
    """Answer one question on stdout; whatever else there is to say goes to stderr."""
    at_terminal = sys.stdout.isatty()
    last = ""

    async def write(text: str) -> None:
        nonlocal last
        last = text or last
        # In a thread, because a reader that is slow (`| less`) must not stop the engine, only this answer.
        await anyio.to_thread.run_sync(lambda: click.echo(printable(text) if at_terminal else text, nl=False))

    async with invocation.engine(settings) as engine:
        await make_ready(engine, session.model)
        finished = await answer(engine, session.request(question), write)
    if not last.endswith("\n"):
        click.echo()
    if finished.event.reason == "length" and sys.stderr.isatty():
        click.echo("(The answer was cut at its token limit.)", err=True)
    if invocation.verbose:
        click.echo(finished.summary(), err=True)


async def run_chat(invocation: Invocation, settings: Settings, session: ChatSession) -> None:
    """Chat at the terminal until the user leaves."""
    from cupola_server.cli.terminal import PromptTerminal  # noqa: PLC0415 - takes 150 ms, and one answer needs none

    async with invocation.engine(settings) as engine:
        await make_ready(engine, session.model)
        status = await engine.resolve(session.model)
        terminal = PromptTerminal()
        terminal.notice(f"{status.info.id}. /help for help, Ctrl+C stops an answer, /exit leaves.")
        await chat(engine, session, terminal, verbose=bool(invocation.verbose))


async def make_ready(engine: EngineView, model: str) -> None:
    """Download a model if needed and load it, showing how far that is."""
    status = await engine.resolve(model)
    with shown_progress(status.info.alias) as progress:
        await engine.download(model, progress)
        progress(LOADING)
        await engine.load(model)


async def chat(engine: Answerer, session: ChatSession, terminal: Terminal, *, verbose: bool = False) -> None:
    """Take turns with the user until they leave. A failed turn is told and costs only itself."""
    while not session.ended and (line := await terminal.ask()) is not None:
        if line.startswith("/"):
            if reply := session.command(line):
                terminal.notice(reply)
        elif line.strip():
            await _exchange(engine, session, terminal, line.strip(), verbose=verbose)


async def _exchange(
    engine: Answerer, session: ChatSession, terminal: Terminal, question: str, *, verbose: bool
) -> None:
    parts: list[str] = []
    finished: list[Finished] = []

    async def write(text: str) -> None:
        parts.append(text)
        await terminal.write(text)

    async def work() -> None:
        finished.append(await _answer_within_context(engine, session, terminal, question, write))

    try:
        with terminal.answering():
            interrupted = await run_interruptible(work)
    except CupolaError as error:
        terminal.notice(f"{_break(parts)}Error: {error}")
        return
    session.record(question, "".join(parts))
    await terminal.write("\n")
    if interrupted:
        terminal.notice("(stopped)")
    elif finished and finished[0].event.reason == "length":
        terminal.notice("(cut at the token limit)")
    if verbose and finished:
        terminal.notice(finished[0].summary())


async def _answer_within_context(
    engine: Answerer, session: ChatSession, terminal: Terminal, question: str, write: Write
) -> Finished:
    """Answer, forgetting the oldest exchanges as long as the conversation does not fit the model's context."""
    while True:
        try:
            return await answer(engine, session.request(question), write)
        except (ContextLengthExceededError, BaseExceptionGroup) as raised:
            if not isinstance(cause(raised), ContextLengthExceededError) or not session.forget_oldest():
                raise
            terminal.notice("(The oldest exchange is forgotten; the conversation had outgrown the model's context.)")


def _break(parts: list[str]) -> str:
    return "\n" if parts and not parts[-1].endswith("\n") else ""
