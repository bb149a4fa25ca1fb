"""`foundry model run`: a chat, or one answer, by the service."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import click

from cupola.discovery import ServiceInfo
from cupola_server.cli.chat import ChatSession, Terminal, answer, chat
from cupola_server.cli.foundry import loading, naming
from cupola_server.cli.foundry.fetching import fetched
from cupola_server.cli.foundry.starting import service
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.printing import printable
from cupola_server.cli.remote import RemoteService

GREETING = """\

Interactive Chat. Enter /? or /help for help.
Press Ctrl+C to cancel generation. Type /exit to leave the chat.

Interactive mode, please enter your prompt"""

_THINKING = "🧠 Thinking..."
_ANSWER = "🤖 "


@dataclass(frozen=True, slots=True)
class Run:
    """What `foundry model run` was asked for.

    Attributes:
        name: The model, as the user calls it.
        device: "Auto", or the type of device that a variant must be for.
        ttl_s: Idle seconds after which the model is unloaded.
        prompt: The only prompt to answer; None opens a chat.
        retain: Leave other models loaded.
        verbose: Show how long things take.
    """

    name: str
    device: str
    ttl_s: int
    prompt: str | None
    retain: bool
    verbose: bool

    async def work(self, invocation: Invocation, info: ServiceInfo) -> None:
        """Do it."""
        async with invocation.engine() as engine:
            status = await naming.chosen(engine, self.name, self.device)
            await fetched(engine, status, tips=False)
        async with service(invocation, info) as remote:
            await self._load(remote, status.info.id)
            session = ChatSession(status.info.id, ttl_s=self.ttl_s)
            if self.prompt is not None:
                await _answer(remote, session, self.prompt)
            else:
                click.echo(GREETING)
                await chat(remote, session, Spoken(_terminal()), verbose=self.verbose)

    async def _load(self, remote: RemoteService, model_id: str) -> None:
        if not self.retain:
            click.echo("Unloading existing models. Use --retain true to keep additional models loaded.")
            for other in set(await loading.loaded(remote)) - {model_id}:
                await loading.unload_idle(remote, other)
        started = time.perf_counter()
        still = "🕘 Loading model... "
        await loading.load(remote, model_id, shown=model_id, ttl_s=self.ttl_s, still=still)
        if self.verbose:
            click.echo(f"Time cost to load model: {_duration_text(time.perf_counter() - started)}")


async def _answer(remote: RemoteService, session: ChatSession, prompt: str) -> None:
    terminal = Spoken(LineTerminal())
    with terminal.answering():
        await answer(remote, session.request(prompt), terminal.write)
    await terminal.write("\n")


def _duration_text(seconds: float) -> str:
    """Return "00:00:05.6293161"."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02}:{minutes:02}:{seconds:010.7f}"


def _terminal() -> Terminal:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return LineTerminal()
    from cupola_server.cli.terminal import PromptTerminal  # noqa: PLC0415 - takes 150 ms

    return PromptTerminal()


class Spoken:
    """A terminal on which answers are announced as the original does."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._announced = True

    async def ask(self) -> str | None:
        """Read what the user says."""
        return await self._terminal.ask()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Say that the model thinks."""
        with self._terminal.answering():
            click.echo(_THINKING)
            self._announced = False
            yield

    async def write(self, text: str) -> None:
        """Write a piece of an answer."""
        if not self._announced:
            self._announced, text = True, _ANSWER + text.lstrip()
        await self._terminal.write(text)

    def notice(self, text: str) -> None:
        """Say something about the chat."""
        self._terminal.notice(text)


class LineTerminal:
    """Reads a prompt from each line of stdin; for pipes, and for one prompt."""

    async def ask(self) -> str | None:
        """Read a line; None at the end."""
        click.echo("> ", nl=False)
        line: str = await anyio.to_thread.run_sync(sys.stdin.readline)
        if not line:
            click.echo()
            return None
        return line.rstrip("\n")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Change nothing."""
        yield

    async def write(self, text: str) -> None:
        """Write a piece of an answer; in a thread, because its reader may be slow."""
        shown = printable(text) if sys.stdout.isatty() else text
        await anyio.to_thread.run_sync(lambda: click.echo(shown, nl=False))

    def notice(self, text: str) -> None:
        """Say something about the chat."""
        click.echo(text)
