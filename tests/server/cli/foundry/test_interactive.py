"""`foundry model run` in a real terminal."""

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from screen import Screen

PROMPT = ">"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def chat(machine):
    machine.run("model", "download", "echo")
    screen = Screen(machine, "model", "run", "echo")
    yield screen
    screen.close()


def test_a_chat_survives_ctrl_c_and_a_dead_worker_and_leaves_the_terminal_as_it_was(chat):
    chat.see("Loading model...")
    chat.see("loaded successfully")
    chat.see("Enter /? or /help for help.")
    chat.see(PROMPT)
    chat.type("hello\r")
    chat.see("🧠 Thinking...")
    chat.see("🤖 hello\r\n")
    chat.see(PROMPT)
    chat.type("/clear\r")
    chat.see("was cleared")
    chat.see(PROMPT)
    chat.type("forever slow\r")
    chat.see("🤖 xxx")
    chat.type("\x03")
    chat.see("(stopped)")
    chat.see(PROMPT)
    chat.type("/clear\r")
    chat.see("was cleared")
    chat.see(PROMPT)
    chat.type("please die\r")
    chat.see("ended unexpectedly")
    chat.see(PROMPT)
    chat.type("/?\r")
    chat.see("/exit")
    chat.see(PROMPT)
    chat.type("/exit\r")
    assert chat.wait() == 0
    assert chat.echoes()
