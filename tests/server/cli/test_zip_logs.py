"""`cupola zip-logs`: the content of the zip file, without secrets."""

import json
import zipfile


def test_logs_settings_and_versions_are_packed_without_secrets(machine, tmp_path):
    machine.config.write_text('[server]\napi_keys = ["sesame"]\n')
    agent = int(machine.ensure().communicate()[0])
    target = tmp_path / "report.zip"
    done = machine.run("zip-logs", "--to", str(target))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Wrote 1 log file, the settings and the versions to {target}.\n"
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    about = json.loads(content.pop("about.json"))
    (log,) = content.values()
    assert f"process {agent}" in log
    assert about["settings"]["server"]["api_keys"] == "(hidden)"
    assert about["settings"]["cache"]["dir"] == str(machine.cache)
    assert "cupola" in about["packages"]
    assert {"shelf", "echo"} <= set(about["plugins"])
    assert "sesame" not in json.dumps(about) + log


def test_without_logs_there_is_still_a_report(machine, tmp_path):
    done = machine.run("zip-logs", "--to", str(tmp_path / "report.zip"))
    assert done.stdout == f"Wrote 0 log files, the settings and the versions to {tmp_path / 'report.zip'}.\n"


def test_a_file_that_cannot_be_written_is_reported_in_one_sentence(machine, tmp_path):
    done = machine.run("zip-logs", "--to", str(tmp_path / "nowhere" / "report.zip"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "report.zip" in done.stderr
    assert "bug in Cupola" not in done.stderr
