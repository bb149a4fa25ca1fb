"""`foundry model run`: a chat or a single answer through the service."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import click

from cupola.discovery import ServiceInfo
from cupola_server.cli.chat import ChatSession, chat, write_answer
from cupola_server.cli.foundry.download import download_model
from cupola_server.cli.foundry.remote import load_model, loaded_ids, unload_idle
from cupola_server.cli.foundry.service import connect
from cupola_server.cli.foundry.variants import choose_variant
from cupola_server.cli.invocation import Invocation
from cupola_server.cli.remote import RemoteService
from cupola_server.cli.ui.terminal import PromptTerminal, Terminal, strip_control_characters

GREETING = """\

Interactive Chat. Enter /? or /help for help.
Press Ctrl+C to cancel generation. Type /exit to leave the chat.

Interactive mode, please enter your prompt"""

_THINKING = "🧠 Thinking..."
_ANSWER = "🤖 "


@dataclass(frozen=True, slots=True)
class Run:
    """The options of `foundry model run`, and the command itself.

    Attributes:
        name: The model's name as typed.
        device: "Auto" or a device type.
        ttl_s: Idle seconds before the model is unloaded.
        prompt: A single prompt to answer; None opens a chat.
        retain: Keep other models loaded.
        verbose: Show timings.
    """

    name: str
    device: str
    ttl_s: int
    prompt: str | None
    retain: bool
    verbose: bool

    async def work(self, invocation: Invocation, info: ServiceInfo) -> None:
        """Download and load the model if needed, then answer the prompt or chat."""
        async with invocation.engine() as engine:
            status = await choose_variant(engine, self.name, self.device)
            await download_model(engine, status, tips=False)
        async with connect(invocation, info) as service:
            await self._load(service, status.info.id)
            session = ChatSession(status.info.id, ttl_s=self.ttl_s)
            if self.prompt is not None:
                await _answer(service, session, self.prompt)
            else:
                click.echo(GREETING)
                await chat(service, session, MarkedTerminal(_terminal()), verbose=self.verbose)

    async def _load(self, service: RemoteService, model_id: str) -> None:
        if not self.retain:
            click.echo("Unloading existing models. Use --retain true to keep additional models loaded.")
            for other in set(await loaded_ids(service)) - {model_id}:
                await unload_idle(service, other)
        started = time.perf_counter()
        still = "🕘 Loading model... "
        await load_model(service, model_id, shown=model_id, ttl_s=self.ttl_s, still=still)
        if self.verbose:
            click.echo(f"Time cost to load model: {_format_duration(time.perf_counter() - started)}")


class MarkedTerminal:
    """A terminal that marks answers as the original does."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._marked = True

    async def read_prompt(self) -> str | None:
        """Read a prompt from the user."""
        return await self._terminal.read_prompt()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Show that the model is thinking."""
        with self._terminal.answering():
            click.echo(_THINKING)
            self._marked = False
            yield

    async def write(self, text: str) -> None:
        """Write a part of an answer."""
        if not self._marked:
            self._marked, text = True, _ANSWER + text.lstrip()
        await self._terminal.write(text)

    def notice(self, text: str) -> None:
        """Print a message about the chat."""
        self._terminal.notice(text)


class LineTerminal:
    """Reads a prompt from each line of stdin; for pipes, and for one prompt."""

    async def read_prompt(self) -> str | None:
        """Read a line; None at the end of input."""
        click.echo("> ", nl=False)
        line: str = await anyio.to_thread.run_sync(sys.stdin.readline)
        if not line:
            click.echo()
            return None
        return line.rstrip("\n")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Do nothing."""
        yield

    async def write(self, text: str) -> None:
        """Write a part of an answer, in a thread because the reader of a pipe may be slow."""
        shown = strip_control_characters(text) if sys.stdout.isatty() else text
        await anyio.to_thread.run_sync(lambda: click.echo(shown, nl=False))

    def notice(self, text: str) -> None:
        """Print a message about the chat."""
        click.echo(text)


async def _answer(service: RemoteService, session: ChatSession, prompt: str) -> None:
    terminal = MarkedTerminal(LineTerminal())
    with terminal.answering():
        await write_answer(service, session.request(prompt), terminal.write)
    await terminal.write("\n")


def _format_duration(seconds: float) -> str:
    """Format a duration as "00:00:05.6293161"."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02}:{minutes:02}:{seconds:010.7f}"


def _terminal() -> Terminal:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return LineTerminal()
    return PromptTerminal()
