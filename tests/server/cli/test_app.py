"""The root command: global options, the commands of plugins, and imports."""

import json
import subprocess
import sys

import pytest

HEAVY = ("onnxruntime", "onnxruntime_genai", "starlette", "hypercorn", "httpx", "rich", "prompt_toolkit", "anyio")


def test_help_shows_built_in_and_contributed_commands(cupola):
    result = cupola("--help")
    assert result.exit_code == 0
    for name in ("serve", "model", "cache", "plugins", "greet", "foreign"):
        assert f"\n  {name}" in result.stdout
    assert "Greet somebody." in result.stdout


def test_help_truncates_no_text_at_80_columns(cupola):
    groups = [(), ("model",), ("cache",), ("service",), ("provider",), ("downloads",), ("bench",)]
    shown = [cupola(*group, "--help").stdout for group in groups]
    assert [line for text in shown for line in text.splitlines()[1:] if line.endswith("...")] == []


def test_help_works_with_invalid_settings(cupola):
    result = cupola("--set", "server.prot=1", "--help")
    assert result.exit_code == 0
    assert "plugins" in result.stdout
    assert "server.prot" in result.stderr


def test_a_contributed_command_runs(cupola):
    assert cupola("greet", "Ada").stdout == "Hello Ada\n"


def test_a_contributed_command_without_click_gets_its_arguments_unparsed(cupola):
    assert cupola("foreign", "--help", "-x", "y").stdout == "cupola foreign: ['--help', '-x', 'y']\n"


def test_a_contributed_command_with_a_built_in_name_is_reported_and_not_used(cupola):
    assert "usurped" not in cupola("model", "--help").stdout
    result = cupola("--help")
    assert result.stderr.count("the command 'model'") == 1
    failures = json.loads(cupola("plugins", "--output", "json").stdout)["failures"]
    assert ("shelf", "cli_commands") in [(failure["plugin"], failure["stage"]) for failure in failures]


@pytest.mark.parametrize(
    "words",
    [("frobnicate",), ("--frobnicate",), ("model",), ("model", "list", "--output", "xml"), ("serve", "--port", "1e9")],
)
def test_wrong_usage_is_exit_code_2_with_a_message_on_stderr(cupola, words):
    result = cupola(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: cupola" in result.stderr


@pytest.mark.parametrize("words", [("--set", "server.prot=1"), ("--set", "nonsense"), ("--config", "/nowhere.toml")])
def test_invalid_settings_are_reported_in_one_line(cupola, words):
    result = cupola(*words, "plugins")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(("Error: Setting ", "Error: Settings file /nowhere.toml: "))
    assert result.stderr.count("\n") == 1


def test_a_settings_file_can_be_named(cupola, tmp_path):
    file = tmp_path / "other.toml"
    file.write_text('[plugins]\ndisabled = ["shelf"]\n')
    result = cupola("--config", str(file), "--set", 'plugins.disabled=["echo"]', "plugins")
    assert "shelf" in result.stdout
    assert "EchoExecutionProvider" not in result.stdout


def test_the_version_is_shown_without_importing_anything_heavy():
    code = (
        "import sys; sys.argv = ['cupola', '--version']\n"
        "from cupola_server.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.startswith("cupola 0.")
    assert result.stderr == "[]\n"


def test_a_usage_error_is_reported_without_importing_anything_heavy(machine):
    result = machine.run("model", "run", "--max-tokens", "none")
    assert result.returncode == 2
    modules = ("app", "model", "serve", "cache", "plugins")
    code = f"import sys, {', '.join(f'cupola_server.cli.{module}' for module in modules)}"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print([name for name in {(*HEAVY, 'cupola')} if name in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize("group", ["model", "cache", "provider"])
def test_ls_is_list(cupola, group):
    assert cupola(group, "ls", "--help").stdout.startswith(f"Usage: cupola {group} ")
    assert cupola(group, "ls", "--help").exit_code == 0
