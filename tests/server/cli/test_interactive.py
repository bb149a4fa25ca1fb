"""A chat in a pseudo-terminal, with the program in its own process, a worker, keys and signals."""

import signal
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from screen import Screen

PROMPT = ">"
pytestmark = pytest.mark.timeout(60)


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
    chat.see("/help shows the commands")
    chat.see(PROMPT)
    chat.type("hello\r")
    chat.see("Echo:hello\r\n")
    chat.see(PROMPT)
    chat.type("/clear\r")
    chat.see("was cleared")
    chat.see(PROMPT)
    chat.type("forever slow\r")
    chat.see("xxx")
    assert not chat.echoes()
    chat.type("\x03")
    chat.see("(stopped)")
    chat.see(PROMPT)
    chat.type("/clear\r")
    chat.see("was cleared")
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


def test_a_deletion_needs_confirmation(screen, machine):
    removal = screen("cache", "remove", "echo")
    removal.see("[y/N]")
    removal.type("n\r")
    assert removal.wait() == 1
    assert "echo" in machine.run("cache", "list").stdout
