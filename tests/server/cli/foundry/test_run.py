"""`foundry model load`, `unload` and `run`, by a real service with real workers."""

import re
import signal

import anyio
import httpx
import pytest

from waiting import until

ECHO = "echo-generic-cpu:1"
PRELUDE = (
    f"Model {ECHO} was found in the local cache.\n"
    "Unloading existing models. Use --retain true to keep additional models loaded.\n"
    "🕘 Loading model... \n"
    f"🟢 Model {ECHO} loaded successfully\n"
)
GREETING = (
    "\n"
    "Interactive Chat. Enter /? or /help for help.\n"
    "Press Ctrl+C to cancel generation. Type /exit to leave the chat.\n"
    "\n"
    "Interactive mode, please enter your prompt\n"
)


@pytest.fixture
def ready(machine):
    """A machine with the model in its cache and the service running."""
    assert machine.run("model", "download", "echo").returncode == 0
    return machine


def loaded(machine):
    models = httpx.get(f"{machine.agent().url}/cupola/ps").json()["models"]
    return [(model["id"], model["ttl_s"]) for model in models]


def test_a_model_is_loaded_with_its_time_and_unloaded(ready):
    done = ready.run("model", "load", "echo", "--ttl", "45")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "🕓 Loading model...\n🟢 Model echo loaded successfully\n"
    assert loaded(ready) == [(ECHO, 45)]
    assert ready.run("model", "load", "echo").returncode == 0
    assert loaded(ready) == [(ECHO, 600)]
    unloaded = ready.run("model", "unload", "echo", "--all")
    assert (unloaded.returncode, unloaded.stdout) == (0, f"🟢 Model {ECHO} unloaded successfully\n")
    assert loaded(ready) == []


def test_one_prompt_is_answered_as_in_the_original(ready):
    done = ready.run("model", "run", "echo", "--prompt", "hé 🙂", "--ttl", "7")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{PRELUDE}🧠 Thinking...\n🤖 hé 🙂\n"
    assert loaded(ready) == [(ECHO, 7)]


def test_a_chat_comes_through_a_pipe(ready):
    done = ready.run("model", "run", "echo", stdin="hello\n/clear\nbye\n/exit\nnever\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{PRELUDE}{GREETING}> 🧠 Thinking...\n🤖 hello\n> The conversation was cleared.\n> 🧠 Thinking...\n🤖 bye\n> "
    )


def test_the_end_of_the_pipe_ends_the_chat_and_its_line(ready):
    assert ready.run("model", "run", "echo", stdin="").stdout == f"{PRELUDE}{GREETING}> \n"


def test_verbose_tells_how_long_loading_took(ready):
    done = ready.run("model", "run", "echo", "--prompt", "x", "--verbose", "--retain", "true")
    assert "Unloading existing models" not in done.stdout
    assert re.search(r"^Time cost to load model: 00:00:0\d\.\d{7}$", done.stdout, re.MULTILINE)


def test_a_model_is_downloaded_before_it_runs(machine):
    done = machine.run("model", "run", "echo", "--prompt", "first")
    assert done.returncode == 0
    assert f"Downloading {ECHO}...\n" in done.stdout
    assert "Tips:" not in done.stdout
    assert done.stdout.endswith("🤖 first\n")


@pytest.mark.parametrize(
    ("prompt", "sentence"), [("please raise", "it was told to"), ("x" * 5000, "maximum context length is 4096 tokens")]
)
def test_an_answer_that_fails_is_one_exception(ready, prompt, sentence):
    done = ready.run("model", "run", "echo", "--prompt", prompt)
    assert done.returncode == 1
    assert done.stderr.startswith("Exception: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_an_answer_and_the_service_drops_it(ready):
    process = ready.start("model", "run", "echo", "--prompt", "forever slow")
    while "🧠" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    url = ready.agent().url
    anyio.run(until, lambda: httpx.get(f"{url}/cupola/ps").json()["models"][0]["turns"] == 0)


def test_a_service_that_dies_in_mid_answer_is_told_in_the_originals_words(ready):
    process = ready.start("model", "run", "echo", "--prompt", "forever slow")
    while "🧠" not in process.stdout.readline():
        pass
    agent = ready.agent()
    ready.end()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    first, reason, last = errors.splitlines()
    assert first == f"Exception: Request to local service failed. Uri:{agent.url}/v1/chat/completions"
    assert reason.endswith(f" ({agent.url.removeprefix('http://')})")
    assert last == "Please check service status with 'foundry service status'."
