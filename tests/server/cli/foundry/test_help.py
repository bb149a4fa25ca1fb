"""Help and misuse of `foundry`, byte for byte where the original is known."""

import re

import pytest

HELP = """\
Description:
  Foundry Local CLI: Run AI models on your device.

  🚀 Getting started:

     1. To view available models: foundry model list
     2. To run a model: foundry model run <model>

     EXAMPLES:
         foundry model run phi-3-mini-4k

Usage:
  foundry [command] [options]

Options:
  -?, -h, --help  Show help and usage information
  --version       Show version information
  --license       Display foundry license information

Commands:
  model    Discover, run and manage models
  cache    Manage the local cache
  service  Manage the local model inference service
"""


@pytest.mark.parametrize("flag", ["-?", "-h", "--help"])
def test_help_is_that_of_the_original(foundry, flag):
    result = foundry(flag)
    assert (result.exit_code, result.stdout) == (0, HELP)


@pytest.mark.parametrize("flag", ["-?", "-h", "--help"])
def test_a_commands_help_has_a_section_for_each_kind_of_word(foundry, flag):
    assert foundry("model", "info", flag).stdout == (
        "Description:\n"
        "  Show information about a model\n"
        "\n"
        "Usage:\n"
        "  foundry model info <model> [options]\n"
        "\n"
        "Arguments:\n"
        "  <model>  The alias or the id of a model\n"
        "\n"
        "Options:\n"
        "  --device <Auto|CPU|GPU|NPU>  The device to run the model on [default: Auto]\n"
        "  --license                    Show the license of the model\n"
        "  -o, --output <table|json>    How to show the result [default: table]\n"
        "  -?, -h, --help               Show help and usage information\n"
    )


def test_a_groups_help_names_its_commands_their_other_names_and_their_arguments(foundry):
    shown = foundry("model", "--help").stdout
    assert "  foundry model [command] [options]\n" in shown
    assert re.search(r"^  list, ls +List the models of the catalog$", shown, re.MULTILINE)
    assert re.search(r"^  info <model> +Show information about a model$", shown, re.MULTILINE)


def test_the_version_begins_with_the_release_that_clients_expect(foundry):
    shown = foundry("--version").stdout
    assert re.fullmatch(r"0\.8\.\d+\+cupola\.\d+\.\d+\.\d+\n", shown)


def test_the_license_is_shown(foundry):
    shown = foundry("--license").stdout
    assert shown.startswith("Apache License")
    assert "TERMS AND CONDITIONS" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("frobnicate",), "Unrecognized command or argument 'frobnicate'.\nHint: Run 'foundry --help' to see usage.\n"),
        (("model", "pwd"), "Unrecognized command or argument 'pwd'.\nHint: Run 'foundry model --help' to see usage.\n"),
        (
            ("model", "list", "more"),
            "Unrecognized command or argument 'more'.\nHint: Run 'foundry model list --help' to see usage.\n",
        ),
        (
            ("model", "list", "--frob"),
            "Unrecognized command or argument '--frob'.\nHint: Run 'foundry model list --help' to see usage.\n",
        ),
        (
            ("model", "info"),
            "Required argument missing for command: 'info'.\nHint: Run 'foundry model info --help' to see usage.\n",
        ),
    ],
)
def test_misuse_is_exit_code_2_and_told_on_stderr(foundry, words, said):
    result = foundry(*words)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


@pytest.mark.parametrize("words", [("model", "info", "x", "--device", "TPU"), ("model", "list", "--filter", "size=3")])
def test_a_wrong_value_is_explained(foundry, words):
    result = foundry(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(r"TPU|size", result.stderr)
    assert result.stderr.endswith("--help' to see usage.\n")


@pytest.mark.parametrize("words", [(), ("model",), ("cache",), ("service",)])
def test_without_a_command_the_help_is_shown(foundry, words):
    result = foundry(*words)
    assert (result.exit_code, result.stderr) == (2, "Required command was not provided.\n\n")
    assert result.stdout.startswith("Description:\n")


def test_the_name_by_which_it_is_called_decides_which_program_it_is(machine, tmp_path):
    script = tmp_path / "foundry"
    script.write_text("from cupola_server.cli import main\nmain()\n")
    machine.command = lambda *words: [machine.python, str(script), *words]
    assert machine.run("--version").stdout.startswith("0.8.")
    script = script.rename(tmp_path / "cupola")
    assert machine.run("--version").stdout.startswith("cupola ")


def test_python_m_runs_it(machine):
    machine.command = lambda *words: [machine.python, "-m", "cupola_server.cli.foundry", *words]
    assert machine.run("--help").stdout == HELP
