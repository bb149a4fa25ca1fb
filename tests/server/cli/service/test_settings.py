"""`foundry service set`: the saved settings and the output, byte for byte."""

import json


def test_set_saves_restarts_and_shows(foundry, machine):
    machine.config.write_text("# mine\n[models] # and this\nttl_s = 60\n")
    shown = foundry("set", "--show").stdout
    assert shown.startswith("No settings changed\n{")
    assert json.loads(shown.partition("\n")[2]) == {
        "defaultLogLevel": 2,
        "serviceSettings": {
            "host": "127.0.0.1",
            "port": 0,
            "cacheDirectoryPath": str(machine.cache),
            "schema": "http",
            "pipeName": str(machine.files.socket),
            "defaultSecondsForModelTTL": 60,
            "initialConnectionTimeoutInSeconds": 30,
        },
    }
    saved = foundry("set", "--default-log-level", "Debug", "--ttl", "90", "--show")
    info = machine.agent()
    assert saved.stdout.startswith(
        "Saving new settings\n"
        "Restarting service...\n"
        "🔴 Service is stopped.\n"
        f"🟢 Service is Started on {info.url}/, PID {info.pid}!\n"
        "{\n"
    )
    assert '"defaultLogLevel": 1' in saved.stdout
    assert machine.config.read_text() == (
        '# mine\n[models] # and this\nttl_s = 90.0\n\n[service]\nlog_level = "debug"\n'
    )


def test_a_setting_overridden_by_a_variable_is_reported(foundry, machine, tmp_path):
    run = foundry("set", "--cachedir", str(tmp_path / "elsewhere"))
    assert run.returncode == 0
    assert run.stderr == "cache.dir was saved but has no effect: an environment variable or --set takes precedence.\n"


def test_an_unknown_level_is_reported_and_nothing_is_written(foundry, machine):
    run = foundry("set", "--default-log-level", "Loud")
    assert run.returncode == 2
    assert (
        "Unknown log level 'Loud'. Available: Trace, Debug, Information, Warning, Error, Critical, None." in run.stderr
    )
    assert machine.config.read_text() == ""
