"""The line editor, with a pipe instead of a keyboard."""

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from cupola_server.cli.ui.terminal import PromptTerminal

pytestmark = pytest.mark.anyio


@pytest.fixture
def keyboard():
    with create_pipe_input() as pipe:
        yield pipe


@pytest.fixture
def terminal(keyboard):
    return PromptTerminal(stdin=keyboard, stdout=DummyOutput())


async def test_enter_sends_a_line_and_the_up_arrow_brings_it_back(keyboard, terminal):
    keyboard.send_text("hello\r")
    assert await terminal.read_prompt() == "hello"
    keyboard.send_text("\x1b[A again\r")
    assert await terminal.read_prompt() == "hello again"


async def test_alt_enter_begins_a_new_line(keyboard, terminal):
    keyboard.send_text("one\x1b\rtwo\r")
    assert await terminal.read_prompt() == "one\ntwo"


async def test_pasted_text_stays_one_message(keyboard, terminal):
    keyboard.send_text("\x1b[200~one\ntwo\x1b[201~\r")
    assert await terminal.read_prompt() == "one\ntwo"


async def test_ctrl_d_leaves(keyboard, terminal):
    keyboard.send_text("\x04")
    assert await terminal.read_prompt() is None


async def test_ctrl_c_discards_the_line_and_on_an_empty_line_shows_how_to_leave(keyboard, terminal, capsys):
    keyboard.send_text("mistake\x03fine\r")
    assert await terminal.read_prompt() == "fine"
    assert capsys.readouterr().out == ""
    keyboard.send_text("\x03\x04")
    assert await terminal.read_prompt() is None
    assert "type /exit" in capsys.readouterr().out


async def test_answers_and_notices_cannot_control_the_terminal(terminal, capsys):
    await terminal.write("a\x1b[2Jb")
    terminal.notice("c\x07d")
    assert capsys.readouterr().out == "a[2Jbcd\n"
