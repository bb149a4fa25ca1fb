"""The terminal of a chat: a line editor for prompts, and streamed text for answers."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
import click

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import Output


class Terminal(Protocol):
    """A terminal on which the user chats with a model."""

    async def read_prompt(self) -> str | None:
        """Read the user's next prompt; None to leave the chat."""

    def answering(self) -> AbstractContextManager[None]:
        """Return a context that lasts while an answer is written; what is typed meanwhile waits for `read_prompt`."""

    async def write(self, text: str) -> None:
        """Write a part of an answer."""

    def notice(self, text: str) -> None:
        """Print a message about the chat on its own line."""


class PromptTerminal:
    """A terminal with a line editor and a history. Creating one imports prompt_toolkit, which takes 150 ms.

    Args:
        stdin: Where keys are read from; None is the real terminal.
        stdout: Where the line editor draws; None is the real terminal.
    """

    def __init__(self, *, stdin: "Input | None" = None, stdout: "Output | None" = None) -> None:
        from prompt_toolkit import PromptSession  # noqa: PLC0415 - slow to import
        from prompt_toolkit.history import InMemoryHistory  # noqa: PLC0415

        self._prompt: PromptSession[str] = PromptSession(
            "> ",
            history=InMemoryHistory(),
            key_bindings=_key_bindings(),
            prompt_continuation="  ",
            interrupt_exception=_Interrupted,
            input=stdin,
            output=stdout,
        )

    async def read_prompt(self) -> str | None:
        """Read a prompt; None after Ctrl+D. Ctrl+C discards what was typed."""
        while True:
            try:
                return await self._prompt.prompt_async()
            except _Interrupted:
                if not self._prompt.default_buffer.text:
                    self.notice("To leave the chat, press Ctrl+D or type /exit.")
            except EOFError:
                return None

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Do not echo keys, such as ^C, into the answer."""
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
        """Write a part of an answer without its control characters."""
        await anyio.to_thread.run_sync(lambda: click.echo(strip_control_characters(text), nl=False))

    def notice(self, text: str) -> None:
        """Print a dimmed message about the chat."""
        click.echo(click.style(strip_control_characters(text), dim=True), file=sys.stdout)


def strip_control_characters(text: str) -> str:
    """Remove the control characters that a terminal would interpret; newlines and tabs stay."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable() or ord(char) > 0x9F)


class _Interrupted(Exception):  # noqa: N818 - not an error: the user pressed Ctrl+C
    """The user pressed Ctrl+C while typing."""


def _key_bindings() -> "KeyBindings":
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415

    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    return bindings
