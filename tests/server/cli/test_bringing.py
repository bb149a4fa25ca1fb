"""`cupola model add`, `import` and filters, with the built-in plugins, a real cache and real models."""

import json

import pytest

from genai_folders import genai_folder
from tiny_model import write_tiny_gguf, write_tiny_model

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
def test_what_is_no_model_is_one_sentence_and_leaves_nothing(machine, tmp_path, content, sentence):
    (tmp_path / "file.gguf").write_bytes(content)
    result = machine.run("model", "import", str(tmp_path / "file.gguf"), **ALL)
    assert (result.returncode, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not machine.cache.exists()


def test_a_path_that_is_not_there_is_misuse(machine, tmp_path):
    assert machine.run("model", "add", str(tmp_path / "nothing"), **ALL).returncode == 2


def test_a_model_for_a_device_that_is_not_here_can_be_shown_and_removed(machine, tmp_path):
    folder = genai_folder(tmp_path / "far", providers=[("cuda", {})])
    machine.run("model", "add", str(folder), **ALL)
    shown = machine.run("model", "info", "far", **ALL)
    assert "CUDAExecutionProvider" in shown.stdout, shown.stderr
    ran = machine.run("model", "run", "far", "--prompt", "x", **ALL)
    assert (ran.returncode, "CUDAExecutionProvider on GPU" in ran.stderr) == (1, True)
    assert machine.run("cache", "remove", "far", "--yes", **ALL).stdout == "far-cuda-gpu:1 is deleted.\n"


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
def test_a_listing_shows_what_the_filters_admit(cupola, filters, aliases):
    words = [word for text in filters for word in ("--filter", text)]
    listed = cupola("model", "list", *words, "--output", "json")
    assert [model["alias"] for model in json.loads(listed.stdout)] == aliases
    if not aliases:
        assert "None of 2 models" in cupola("model", "list", *words).stderr


def test_a_filter_that_is_none_is_misuse(cupola):
    result = cupola("model", "list", "--filter", "colour=red")
    assert (result.exit_code, "colour" in result.stderr) == (2, True)
