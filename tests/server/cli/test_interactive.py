"""A whole chat in a real terminal: a pseudo-terminal, the program in a process, a worker, keys and signals."""

import os
import re
import signal
import subprocess
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

import fcntl
import pty
import struct
import termios

PROMPT = ">"
# A process gets Ctrl+C only from the terminal that controls it.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)

pytestmark = pytest.mark.timeout(60)


class Screen:
    """Types into a pseudo-terminal and reads what appears on it."""

    def __init__(self, machine, *words):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        command = [sys.executable, "-c", TAKE_TERMINAL, *machine.command(*words)]
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **machine.environment},
        )
        os.close(slave)
        self.unread = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def see(self, text):
        """Read until a text has appeared and return what came before it."""
        while text not in self.unread:
            try:
                data = os.read(self.master, 4096)
            except OSError as error:  # how Linux reports that the program has gone
                raise AssertionError(f"never saw {text!r}, only {self.unread!r}") from error
            if b"\x1b[6n" in data:  # prompt_toolkit asks where the cursor is
                os.write(self.master, b"\x1b[1;1R")
            self.unread = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.unread + data.decode(errors="replace"))
        before, _, self.unread = self.unread.partition(text)
        return before

    def echoes(self):
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def wait(self):
        self.see_the_end()
        return self.process.wait(timeout=30)

    def see_the_end(self):
        try:
            while os.read(self.master, 4096):
                pass
        except OSError:
            return

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def screen(machine):
    machine.run("model", "download", "echo")
    screens = []

    def open_screen(*words):
        screens.append(Screen(machine, *words))
        return screens[-1]

    yield open_screen
    for opened in screens:
        opened.close()


def test_a_chat_answers_survives_ctrl_c_and_a_dead_worker_and_leaves_the_terminal_as_it_was(screen):
    chat = screen("model", "run", "--system", "Echo:")
    chat.see("/help for help")
    chat.see(PROMPT)
    chat.type("hello\r")
    chat.see("Echo:hello\r\n")
    chat.see(PROMPT)
    chat.type("/clear\r")
    chat.see("is forgotten")
    chat.see(PROMPT)
    chat.type("forever slow\r")
    chat.see("xxx")
    assert not chat.echoes()
    chat.type("\x03")
    chat.see("(stopped)")
    chat.see(PROMPT)
    chat.type("/clear\r")
    chat.see("is forgotten")
    chat.see(PROMPT)
    chat.type("please die\r")
    chat.see("ended unexpectedly")
    chat.see(PROMPT)
    chat.type("again\r")
    chat.see("Echo:again\r\n")
    chat.see(PROMPT)
    chat.type("/exit\r")
    assert chat.wait() == 0
    assert chat.echoes()


def test_ctrl_d_leaves_a_chat(screen):
    chat = screen("model", "run")
    chat.see(PROMPT)
    chat.type("\x04")
    assert chat.wait() == 0


def test_ctrl_c_while_a_model_loads_ends_the_program(screen):
    chat = screen("model", "run")
    chat.see("Loading echo")
    chat.process.send_signal(signal.SIGINT)
    assert chat.wait() == 130


def test_a_listing_in_a_terminal_is_a_table(screen):
    listing = screen("model", "list")
    assert "─" in listing.see("echo-generic-cpu:1")
    assert listing.wait() == 0


def test_a_deletion_is_asked_about_and_no_is_no(screen, machine):
    removal = screen("cache", "remove", "echo")
    removal.see("[y/N]")
    removal.type("n\r")
    assert removal.wait() == 1
    assert "echo" in machine.run("cache", "list").stdout
