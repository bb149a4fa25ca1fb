"""`cupola model` and `cupola cache`, with a real engine, a real cache and real worker processes."""

import json
import os
import signal
import subprocess

import pytest


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


def test_a_download_without_a_name_brings_the_default_model(machine):
    brought = machine.run("model", "download")
    assert (brought.returncode, brought.stdout.startswith("echo-generic-cpu:1 is downloaded (")) == (0, True)
    assert machine.run("model", "download").stdout.startswith("echo-generic-cpu:1 was in the cache already: ")


def test_the_prompt_may_come_through_a_pipe(machine):
    assert machine.run("model", "run", stdin="piped\n").stdout == "piped\n"
    assert machine.run("model", "run", "--prompt", "-", stdin="dash").stdout == "dash\n"
    assert machine.run("model", "run", "--prompt", "given", stdin="ignored").stdout == "given\n"


@pytest.mark.parametrize("words", [(), ("--prompt", " "), ("--prompt", "-")])
def test_an_empty_prompt_is_misuse(machine, words):
    result = machine.run("model", "run", *words, stdin="\n")
    assert (result.returncode, result.stdout) == (2, "")
    assert "The prompt is empty" in result.stderr


def test_a_pipe_that_carries_no_text_is_misuse(machine):
    process = machine.start("model", "run", stdin=subprocess.PIPE, text=False)
    out, err = process.communicate(b"\x89PNG\xff", timeout=30)
    assert (process.returncode, out) == (2, b"")
    assert b"not UTF-8" in err


def test_an_argument_that_carries_no_text_is_misuse(machine):
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
def test_what_fails_is_one_sentence_on_stderr_and_exit_code_1(machine, words, sentence):
    result = machine.run("model", *words)
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert sentence in last
    assert "Traceback" not in result.stderr


def test_verbose_shows_the_traceback_and_what_the_answer_took(machine):
    assert "Traceback" in machine.run("-vv", "model", "info", "nothing").stderr
    assert "2 tokens in, 2 out" in machine.run("-v", "model", "run", "--prompt", "hi").stderr


def test_a_reader_that_leaves_ends_the_command_quietly(machine):
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
    assert first.stdout == f"echo-generic-cpu:1 is downloaded (1 MB): {folder}\n"
    assert again.stdout == f"echo-generic-cpu:1 was in the cache already: {folder}\n"
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
    assert machine.run("cache", "remove", "echo", "--yes").stdout == "echo-generic-cpu:1 is deleted.\n"
    gone = machine.run("cache", "remove", "echo", "--yes")
    assert (gone.returncode, gone.stderr.startswith("Error: 'echo' is not downloaded.")) == (1, True)


def test_an_unwritable_cache_is_one_sentence(machine):
    machine.cache.write_text("a file in the way")
    result = machine.run("model", "run", "--prompt", "x")
    assert result.returncode == 1
    assert "cache" in result.stderr
    assert "Traceback" not in result.stderr
