"""Errors of commands: a message and an exit code."""

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
def test_a_cupola_error_is_printed_as_its_message(error):
    result = outcome(error)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {BUSY}\n")


def test_any_other_error_is_reported_as_a_bug():
    result = outcome(ZeroDivisionError("by zero"))
    assert result.exit_code == 1
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "cupola -v" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])])
def test_ctrl_c_is_exit_code_130(error):
    result = outcome(error)
    assert (result.exit_code, result.stdout) == (130, "")


def test_a_closed_pipe_is_not_reported():
    result = outcome(ExceptionGroup("", [BrokenPipeError(errno.EPIPE, "Broken pipe")]))
    assert (result.exit_code, result.output) == (1, "")


def test_the_most_informative_error_of_a_group_is_its_root_cause():
    assert root_cause(ExceptionGroup("", [ValueError(), ExceptionGroup("", [BUSY])])) is BUSY
    first = ValueError()
    assert root_cause(ExceptionGroup("", [first, TypeError()])) is first
