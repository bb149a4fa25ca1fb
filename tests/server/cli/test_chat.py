"""The chat's state, its commands and its loop, with a scripted engine and terminal."""

import os
import signal
from contextlib import asynccontextmanager, nullcontext

import anyio
import pytest

from cupola.errors import ContextLengthExceededError, WorkerDiedError
from cupola.frontend import ModelInfo
from cupola.messages import Message, Sampling, TurnFinished, TurnText, Usage
from cupola_server.cli.chat import HELP, ChatSession, chat
from cupola_server.cli.ui.terminal import strip_control_characters

pytestmark = pytest.mark.anyio


class ScriptedEngine:
    """Answers each request with the next script; an exception in a script is raised at its position."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests = []
        self.cancelled = 0

    @asynccontextmanager
    async def generate(self, request):
        self.requests.append(request)
        script = self.scripts.pop(0)
        if isinstance(script[0], Exception):
            raise script[0]
        try:
            yield ScriptedGeneration(script)
        except BaseException:
            self.cancelled += 1
            raise

    def said(self, index=-1):
        return [(message.role, message.content) for message in self.requests[index].prompt.messages]


class ScriptedGeneration:
    model = ModelInfo(id="m:1", alias="m", source="s", publisher="p")
    prompt_tokens = 3

    def __init__(self, script):
        self.script = script

    async def __aiter__(self):
        for part in self.script:
            if isinstance(part, Exception):
                raise part
            if callable(part):
                await part()
            else:
                yield TurnText(1, part, 1)
        yield TurnFinished(1, "stop", Usage(3, len(self.script)))


class ScriptedTerminal:
    """Types the given lines, then leaves with Ctrl+D; records what it was shown."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.answers = ""
        self.notices = []

    async def read_prompt(self):
        return self.lines.pop(0) if self.lines else None

    def answering(self):
        return nullcontext()

    async def write(self, text):
        self.answers += text

    def notice(self, text):
        self.notices.append(text)


def died():
    return WorkerDiedError(model="m", detail="killed")


async def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    await anyio.sleep_forever()


async def test_every_turn_sends_the_whole_conversation():
    engine, terminal = ScriptedEngine(["Hel", "lo"], ["Fine"]), ScriptedTerminal("hi", "how are you?")
    session = ChatSession("m", system="Be kind.", sampling=Sampling(temperature=0), max_tokens=7)
    await chat(engine, session, terminal)
    assert terminal.answers == "Hello\nFine\n"
    assert engine.said() == [
        ("system", "Be kind."),
        ("user", "hi"),
        ("assistant", "Hello"),
        ("user", "how are you?"),
    ]
    assert (engine.requests[0].model, engine.requests[0].max_tokens) == ("m", 7)
    assert engine.requests[0].sampling.temperature == 0


async def test_a_failed_turn_is_reported_and_left_out_of_the_conversation():
    engine, terminal = ScriptedEngine(["Half an", died()], ["Yes"]), ScriptedTerminal("one", "two")
    await chat(engine, ChatSession("m"), terminal)
    assert terminal.notices == [f"\nError: {died()}"]
    assert engine.said() == [("user", "two")]


async def test_a_rejected_turn_is_reported_and_the_chat_continues():
    engine, terminal = ScriptedEngine([died()], ["Yes"]), ScriptedTerminal("one", "two")
    await chat(engine, ChatSession("m"), terminal)
    assert terminal.notices == [f"Error: {died()}"]
    assert terminal.answers == "Yes\n"


async def test_ctrl_c_cancels_only_the_answer_and_keeps_its_text():
    engine = ScriptedEngine(["Once upon", press_ctrl_c], ["Again"])
    terminal = ScriptedTerminal("a story", "more")
    before = signal.getsignal(signal.SIGINT)
    await chat(engine, ChatSession("m"), terminal)
    assert signal.getsignal(signal.SIGINT) is before
    assert engine.cancelled == 1
    assert terminal.notices == ["(stopped)"]
    assert engine.said() == [("user", "a story"), ("assistant", "Once upon"), ("user", "more")]


async def test_a_prompt_whose_answer_is_cancelled_before_its_first_word_is_forgotten():
    engine, terminal = ScriptedEngine([press_ctrl_c], ["Yes"]), ScriptedTerminal("one", "two")
    await chat(engine, ChatSession("m"), terminal)
    assert engine.said() == [("user", "two")]


async def test_the_oldest_exchange_is_removed_when_the_conversation_exceeds_the_context():
    too_long = ContextLengthExceededError(context_length=8, prompt_tokens=9, completion_tokens=1)
    engine = ScriptedEngine(["A"], ["B"], [too_long], ["C"])
    terminal = ScriptedTerminal("a", "b", "c")
    await chat(engine, ChatSession("m", system="S"), terminal)
    assert engine.said() == [("system", "S"), ("user", "b"), ("assistant", "B"), ("user", "c")]
    assert len(terminal.notices) == 1
    assert "oldest exchange was removed" in terminal.notices[0]


async def test_a_prompt_that_alone_exceeds_the_context_is_rejected():
    too_long = ContextLengthExceededError(context_length=8, prompt_tokens=9, completion_tokens=1)
    terminal = ScriptedTerminal("much")
    await chat(ScriptedEngine([too_long]), ChatSession("m"), terminal)
    assert terminal.notices == [f"Error: {too_long}"]


async def test_exit_leaves_and_blank_lines_are_ignored():
    engine, terminal = ScriptedEngine(), ScriptedTerminal("", "   ", "/exit", "never said")
    await chat(engine, ChatSession("m"), terminal)
    assert terminal.lines == ["never said"]
    assert not engine.requests


async def test_a_line_with_a_space_before_its_slash_goes_to_the_model():
    engine = ScriptedEngine(["A folder."])
    await chat(engine, ChatSession("m"), ScriptedTerminal(" /etc is what?"))
    assert engine.said() == [("user", "/etc is what?")]


async def test_verbose_shows_the_token_usage_and_the_finish_reason():
    terminal = ScriptedTerminal("hi")
    await chat(ScriptedEngine(["a", "b"]), ChatSession("m"), terminal, verbose=True)
    assert terminal.notices[0].startswith("3 tokens in, 2 out, first after ")
    assert terminal.notices[0].endswith("ended by stop")


@pytest.mark.parametrize("line", ["/exit", "/quit", "/bye", "/EXIT "])
async def test_leaving_has_several_names(line):
    session = ChatSession("m")
    session.command(line)
    assert session.ended


async def test_clear_forgets_the_conversation_and_keeps_the_system_message():
    session = ChatSession("m", system="S")
    session.record("q", "a")
    session.command("/clear")
    assert session.request("x").prompt.messages == (Message("system", "S"), Message("user", "x"))


async def test_system_shows_the_system_message_or_sets_it_and_starts_a_new_conversation():
    session = ChatSession("m")
    assert session.command("/system") == "No system message is set."
    session.record("q", "a")
    session.command("/system Answer in verse.")
    assert session.command("/system") == "Answer in verse."
    assert session.request("x").prompt.messages == (Message("system", "Answer in verse."), Message("user", "x"))


async def test_help_names_every_command_and_an_unknown_one_points_to_it():
    session = ChatSession("m")
    assert session.command("/help") == HELP
    assert all(name in HELP for name in ("/clear", "/system", "/help", "/exit", "Ctrl+C"))
    assert "/help" in session.command("/frobnicate now")


async def test_control_characters_are_not_printed():
    assert strip_control_characters("a\x1b[2Jb\r\n\tc\x07\x9b é 🙂\u200d") == "a[2Jb\n\tc é 🙂\u200d"
