"""`cupola model` with a real engine, a real cache and real worker processes."""

import json
import os
import signal
import subprocess

import anyio
import msgspec
import pytest

from cupola.client import api
from cupola.errors import ServiceReplyError, ServiceUnreachableError
from cupola.frontend import Settings
from cupola.settings import ServerSettings
from cupola_server.cli.remote import open_service
from genai_folders import genai_folder
from tiny_model import write_tiny_gguf, write_tiny_model


def test_models_are_listed_in_aligned_columns_and_in_json(machine):
    shown = machine.run("model", "list")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[:2] == [
        "Alias        Device  Task  Size  License  Model ID                   State",
        "echo         CPU     chat  2 MB  MIT      echo-generic-cpu:1",
    ]
    models = json.loads(machine.run("model", "list", "--output", "json").stdout)
    assert [(model["alias"], model["cached"], model["size_bytes"]) for model in models] == [
        ("echo", False, 2_000_000),
        ("unreachable", False, 2_000_000),
    ]


def test_one_prompt_gets_one_answer_on_stdout_and_nothing_else(machine):
    first = machine.run("model", "run", "--prompt", "hé 🙂")
    assert (first.returncode, first.stdout) == (0, "hé 🙂\n")
    assert first.stderr == "Downloading echo: 2 MB of 2 MB\n"
    again = machine.run("model", "run", "echo", "--prompt", "more", "--system", "be brief: ", "--max-tokens", "12")
    assert (again.stdout, again.stderr) == ("be brief: mo\n", "")


def test_a_download_without_a_name_downloads_the_default_model(machine):
    brought = machine.run("model", "download")
    assert (brought.returncode, brought.stdout.startswith("echo-generic-cpu:1 was downloaded (")) == (0, True)
    assert machine.run("model", "download").stdout.startswith("echo-generic-cpu:1 is already downloaded: ")


def test_the_prompt_may_come_through_a_pipe(machine):
    assert machine.run("model", "run", stdin="piped\n").stdout == "piped\n"
    assert machine.run("model", "run", "--prompt", "-", stdin="dash").stdout == "dash\n"
    assert machine.run("model", "run", "--prompt", "given", stdin="ignored").stdout == "given\n"


@pytest.mark.parametrize("words", [(), ("--prompt", " "), ("--prompt", "-")])
def test_an_empty_prompt_is_a_usage_error(machine, words):
    result = machine.run("model", "run", *words, stdin="\n")
    assert (result.returncode, result.stdout) == (2, "")
    assert "The prompt is empty" in result.stderr


def test_a_pipe_without_valid_text_is_a_usage_error(machine):
    process = machine.start("model", "run", stdin=subprocess.PIPE, text=False)
    out, err = process.communicate(b"\x89PNG\xff", timeout=30)
    assert (process.returncode, out) == (2, b"")
    assert b"not valid UTF-8" in err


def test_an_argument_without_valid_text_is_a_usage_error(machine):
    result = machine.run("model", "run", "--prompt", os.fsdecode(b"caf\xe9"))
    assert result.returncode == 2
    assert "not valid UTF-8" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "ecko", "--prompt", "x"), "Did you mean 'echo'"),
        (("run", "unreachable", "--prompt", "x"), "the shelf is too high"),
        (("run", "--prompt", "please raise"), "it was told to"),
        (("run", "--prompt", "die"), "ended unexpectedly"),
        (("run", "--prompt", "x" * 5000), "maximum context length is 4096 tokens"),
        (("info", "nothing"), "Unknown model 'nothing'"),
        (("download", "unreachable"), "the shelf is too high"),
    ],
)
def test_a_failure_is_one_sentence_on_stderr_and_exit_code_1(machine, words, sentence):
    result = machine.run("model", *words)
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert sentence in last
    assert "Traceback" not in result.stderr


def test_verbose_shows_the_traceback_and_what_the_answer_took(machine):
    assert "Traceback" in machine.run("-vv", "model", "info", "nothing").stderr
    assert "2 tokens in, 2 out" in machine.run("-v", "model", "run", "--prompt", "hi").stderr


def test_a_closed_pipe_ends_the_command_quietly(machine):
    process = machine.start("model", "run", "--prompt", "forever")
    assert process.stdout.read(3) == "xxx"
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    with process.stderr:
        assert process.stderr.read().splitlines()[1:] == []


def test_ctrl_c_ends_one_answer_with_exit_code_130_and_no_traceback(machine):
    process = machine.start("model", "run", "--prompt", "forever slow")
    assert process.stdout.read(3) == "xxx"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Error" not in err


def test_a_model_is_downloaded_once_and_described_with_its_folder(machine):
    first, again = (machine.run("model", "download", "echo") for _ in range(2))
    folder = next(machine.cache.glob("**/genai_config.json")).parent
    assert first.stdout == f"echo-generic-cpu:1 was downloaded (1 MB): {folder}\n"
    assert again.stdout == f"echo-generic-cpu:1 is already downloaded: {folder}\n"
    described = machine.run("model", "info", "echo").stdout.splitlines()
    assert "Context    4096 tokens" in described
    assert f"Folder     {folder}" in described
    assert json.loads(machine.run("model", "info", "echo", "-o", "json").stdout)["path"] == str(folder)


def test_the_cache_lists_locates_and_removes_models(machine):
    assert machine.run("cache", "location").stdout == f"{machine.cache}\n"
    empty = machine.run("cache", "list")
    assert (empty.stdout, empty.stderr.startswith("No model is downloaded.")) == ("", True)
    machine.run("model", "download", "echo")
    listed = json.loads(machine.run("cache", "list", "-o", "json").stdout)
    assert [(model["alias"], model["id"]) for model in listed] == [("echo", "echo-generic-cpu:1")]
    assert machine.run("cache", "list").stdout.splitlines()[0].split() == ["Alias", "Model", "ID", "Size", "Folder"]
    asked = machine.run("cache", "remove", "echo")
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    assert machine.run("cache", "remove", "echo", "--yes").stdout == "echo-generic-cpu:1 was deleted.\n"
    gone = machine.run("cache", "remove", "echo", "--yes")
    assert (gone.returncode, gone.stderr.startswith("Error: 'echo' is not downloaded.")) == (1, True)


def test_an_unwritable_cache_is_one_sentence(machine):
    machine.cache.write_text("a file in the way")
    result = machine.run("model", "run", "--prompt", "x")
    assert result.returncode == 1
    assert "cache" in result.stderr
    assert "Traceback" not in result.stderr


ECHO = "echo-generic-cpu:1"


@pytest.fixture
def ready(machine):
    """A machine with the model in its cache."""
    assert machine.run("model", "download", "echo").returncode == 0
    return machine


def test_a_model_is_loaded_into_the_service_which_is_started_for_it(ready):
    assert ready.agent() is None
    done = ready.run("model", "load", "echo", "--ttl", "30")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{ECHO} is loaded (")
    assert done.stdout.endswith(" and unloads after 30 idle seconds.\n")
    assert ready.run("model", "load", "echo", "--ttl", "0").stdout.endswith(" and stays loaded.\n")
    assert ready.run("model", "unload", "echo", "--wait", "1").stdout == "echo was unloaded.\n"
    assert ready.run("model", "unload", "echo").stdout == "echo was not loaded.\n"


def test_a_model_is_loaded_on_the_requested_provider_and_device(ready):
    done = ready.run("model", "load", "echo", "--provider", "echo", "--device", "cpu")
    assert done.stdout.startswith(f"{ECHO} is loaded ("), done.stderr
    refused = ready.run("model", "load", "echo", "--provider", "cuda")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Unknown execution provider 'cuda'. Available: echo" in refused.stderr
    assert ready.run("model", "load", "echo", "--device", "NPU").returncode == 1


def test_unloading_starts_no_service(ready):
    done = ready.run("model", "unload", "echo", "--force")
    assert (done.returncode, done.stdout) == (0, "echo was not loaded; no service is running.\n")
    assert ready.agent() is None


@pytest.mark.parametrize(
    ("name", "sentence"), [("ecko", "Did you mean 'echo'"), ("unreachable", "has not been downloaded")]
)
def test_a_model_that_cannot_be_loaded_is_reported_in_one_sentence(machine, name, sentence):
    done = machine.run("model", "load", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr


def test_the_service_is_reached_by_its_address_with_an_api_key_if_required(ready):
    ready.extra["CUPOLA_SERVER_API_KEYS"] = "sesame"
    assert ready.run("model", "load", "echo").returncode == 0
    info = msgspec.structs.replace(ready.agent(), socket="")

    async def ask(key):
        settings = Settings(server=ServerSettings(api_keys=(key,)))
        async with open_service(info, settings) as service:
            return [model.id for model in (await service.request(api.LIST_LOADED)).models]

    assert anyio.run(ask, "sesame") == [ECHO]
    with pytest.raises(ServiceReplyError, match="API key"):
        anyio.run(ask, "wrong")


def test_an_unreachable_service_is_reported(ready):
    ready.run("model", "load", "echo")
    info = ready.agent()
    ready.end()
    ready.wait_for_end()

    async def ask():
        async with open_service(info, ready.settings()) as service:
            await service.request(api.LIST_LOADED)

    with pytest.raises(ServiceUnreachableError, match="`cupola service status` to see"):
        anyio.run(ask)


ALL = {"CUPOLA_PLUGINS_DISABLED": '["starter"]', "CUPOLA_MODELS_CONTEXT_LENGTH": "256"}


def test_a_gguf_file_is_imported_listed_and_answers(machine, tmp_path):
    source = write_tiny_gguf(tmp_path / "Tiny-Q8_0.gguf")
    imported = machine.run("model", "import", str(source), "--layout", "int4-blocks", **ALL)
    folder = machine.cache / "local" / "Tiny-generic-cpu-1"
    assert imported.stdout == (
        f"Tiny-generic-cpu:1 is in the cache (1 MB): {folder}\nChat with it: cupola model run tiny\n"
    )
    assert "Importing Tiny-Q8_0.gguf" in imported.stderr
    listed = json.loads(machine.run("model", "list", "-o", "json", **ALL).stdout)
    tiny = next(model for model in listed if model["alias"] == "tiny")
    assert (tiny["id"], tiny["cached"], tiny["context_length"]) == ("Tiny-generic-cpu:1", True, 512)
    answered = machine.run("model", "run", "tiny", "--prompt", "hello", "--max-tokens", "5", **ALL)
    assert answered.returncode == 0, answered.stderr
    described = json.loads(machine.run("model", "info", "tiny", "-o", "json", **ALL).stdout)
    assert (described["path"], described["source"]) == (str(folder), "local")


def test_an_added_folder_answers_under_the_name_it_was_given(machine, tmp_path):
    folder = write_tiny_model(tmp_path / "made elsewhere")
    words = ("--name", "Mine:3", "--alias", "mine")
    added = machine.run("model", "add", str(folder), *words, **ALL)
    assert added.stdout.startswith("Mine-generic-cpu:3 is in the cache")
    answered = machine.run("model", "run", "mine", "--prompt", "hello", "--max-tokens", "5", **ALL)
    assert answered.returncode == 0, answered.stderr
    again = machine.run("model", "add", str(folder), *words, **ALL)
    assert (again.returncode, "The name is taken by" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"GGUF\3\0\0\0\xff", "damaged"), (b"%PDF-1.7", "neither a folder with a genai_config")]
)
def test_an_invalid_model_is_reported_in_one_sentence_and_leaves_nothing(machine, tmp_path, content, sentence):
    (tmp_path / "file.gguf").write_bytes(content)
    result = machine.run("model", "import", str(tmp_path / "file.gguf"), **ALL)
    assert (result.returncode, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not machine.cache.exists()


def test_a_missing_path_is_a_usage_error(machine, tmp_path):
    assert machine.run("model", "add", str(tmp_path / "nothing"), **ALL).returncode == 2


def test_a_model_for_a_missing_device_can_be_shown_and_removed(machine, tmp_path):
    folder = genai_folder(tmp_path / "far", providers=[("cuda", {})])
    machine.run("model", "add", str(folder), **ALL)
    shown = machine.run("model", "info", "far", **ALL)
    assert "CUDAExecutionProvider" in shown.stdout, shown.stderr
    ran = machine.run("model", "run", "far", "--prompt", "x", **ALL)
    assert (ran.returncode, "CUDAExecutionProvider on GPU" in ran.stderr) == (1, True)
    assert machine.run("cache", "remove", "far", "--yes", **ALL).stdout == "far-cuda-gpu:1 was deleted.\n"


@pytest.mark.parametrize(
    ("filters", "aliases"),
    [
        (["alias=e*"], ["echo"]),
        (["alias=!echo"], ["unreachable"]),
        (["device=cpu"], ["echo", "unreachable"]),
        (["device=!cpu"], []),
        (["task=chat-completion", "alias=*reach*"], ["unreachable"]),
        (["provider=EchoExecutionProvider"], ["echo", "unreachable"]),
        (["provider=CUDA*"], []),
    ],
)
def test_a_listing_shows_the_models_that_match_the_filters(cupola, filters, aliases):
    words = [word for text in filters for word in ("--filter", text)]
    listed = cupola("model", "list", *words, "--output", "json")
    assert [model["alias"] for model in json.loads(listed.stdout)] == aliases
    if not aliases:
        assert "None of the 2 models matches" in cupola("model", "list", *words).stderr


def test_an_invalid_filter_is_a_usage_error(cupola):
    result = cupola("model", "list", "--filter", "colour=red")
    assert (result.exit_code, "colour" in result.stderr) == (2, True)
