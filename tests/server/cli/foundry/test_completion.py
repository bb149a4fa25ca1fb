"""What a shell asks when somebody presses Tab."""

import sys

import pytest


def completed(machine, program, *words):
    """Ask as bash does, about the last word."""
    code = f"import sys; sys.argv = ['{program}']; from cupola_server.cli import main; main()"
    machine.command = lambda: [sys.executable, "-c", code]
    variables = {
        f"_{program.upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join([program, *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = machine.run(**variables)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("program", ["cupola", "foundry"])
def test_commands_and_options_are_completed(machine, program):
    assert completed(machine, program, "mo") == ["model"]
    assert "list" in completed(machine, program, "model", "l")
    assert completed(machine, program, "model", "list", "--out") == ["--output"]
    assert completed(machine, program, "model", "list", "--output", "j") == ["json"]


def test_values_are_completed(machine):
    assert completed(machine, "foundry", "model", "info", "--device", "G") == ["GPU"]
    assert completed(machine, "foundry", "model", "ls", "--filter", "al") == ["alias="]


@pytest.mark.parametrize(
    ("program", "words"), [("cupola", ("model", "load")), ("cupola", ("model", "run")), ("foundry", ("model", "info"))]
)
def test_names_of_models_are_completed(machine, program, words):
    assert completed(machine, program, *words, "") == ["echo", "unreachable"]
    assert completed(machine, program, *words, "EC") == ["echo", "echo-generic-cpu:1"]


def test_names_that_cannot_be_had_are_no_noise(machine):
    machine.config.write_text("nonsense")
    assert completed(machine, "foundry", "model", "info", "e") == []
