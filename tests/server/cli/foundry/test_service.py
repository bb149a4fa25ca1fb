import zipfile


def test_logs_are_collected_in_this_folder(foundry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = foundry("zip-logs")
    (file,) = tmp_path.glob("foundry-logs-*.zip")
    assert (done.exit_code, done.stdout) == (0, f"Logs collected in {file}\n")
    assert "about.json" in zipfile.ZipFile(file).namelist()
