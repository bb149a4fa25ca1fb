"""What a failed command leaves behind: a sentence and an exit code."""

import errno

import click
import pytest
from click.testing import CliRunner

from cupola.errors import ModelBusyError
from cupola_server.cli.errors import handle_errors, root_cause

BUSY = ModelBusyError(model="tiny", turns=2)


def outcome(error):
    @click.command()
    @click.pass_context
    def command(ctx):
        with handle_errors(ctx):
            raise error

    return CliRunner().invoke(command, [])


@pytest.mark.parametrize("error", [BUSY, ExceptionGroup("of a task group", [ExceptionGroup("nested", [BUSY])])])
def test_an_error_of_ours_is_its_sentence(error):
    result = outcome(error)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {BUSY}\n")


def test_any_other_error_is_named_with_what_to_do():
    result = outcome(ZeroDivisionError("by zero"))
    assert result.exit_code == 1
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "cupola -v" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])])
def test_ctrl_c_is_exit_code_130(error):
    result = outcome(error)
    assert (result.exit_code, result.stdout) == (130, "")


def test_a_reader_that_left_is_nothing_to_talk_about():
    result = outcome(ExceptionGroup("", [BrokenPipeError(errno.EPIPE, "Broken pipe")]))
    assert (result.exit_code, result.output) == (1, "")


def test_the_error_that_says_most_speaks_for_a_group():
    assert root_cause(ExceptionGroup("", [ValueError(), ExceptionGroup("", [BUSY])])) is BUSY
    first = ValueError()
    assert root_cause(ExceptionGroup("", [first, TypeError()])) is first
