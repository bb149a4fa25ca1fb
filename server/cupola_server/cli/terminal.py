"""The user's terminal in a chat: a line editor for questions, plain streaming for answers. Imports prompt_toolkit."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import click
from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output

from cupola_server.cli.printing import printable


class Interrupted(Exception):  # noqa: N818 - not an error: the user pressed Ctrl+C while typing
    """Ctrl+C was pressed while the user typed."""


class PromptTerminal:
    """Reads questions with history and editing, and writes answers as they come."""

    def __init__(self, *, stdin: Input | None = None, stdout: Output | None = None) -> None:
        self._prompt: PromptSession[str] = PromptSession(
            "> ",
            history=InMemoryHistory(),
            key_bindings=_key_bindings(),
            prompt_continuation="  ",
            interrupt_exception=Interrupted,
            input=stdin,
            output=stdout,
        )

    async def ask(self) -> str | None:
        """Read what the user says; None after Ctrl+D. Ctrl+C drops what was typed."""
        while True:
            try:
                return await self._prompt.prompt_async()
            except Interrupted:
                if not self._prompt.default_buffer.text:
                    self.notice("Ctrl+D or /exit leaves.")
            except EOFError:
                return None

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Keep keys, ^C among them, from showing up in the middle of an answer."""
        if sys.platform == "win32" or not sys.stdin.isatty():
            yield
            return
        import termios  # noqa: PLC0415 - not on Windows

        before = termios.tcgetattr(sys.stdin)
        silent = [*before]
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
        try:
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)

    async def write(self, text: str) -> None:
        """Write a piece of an answer, without the characters that would steer the terminal."""
        await anyio.to_thread.run_sync(lambda: click.echo(printable(text), nl=False))

    def notice(self, text: str) -> None:
        """Say something about the chat, dimmed."""
        click.echo(click.style(printable(text), dim=True), file=sys.stdout)


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings
