from pathlib import Path

import pytest

from cupola.frontend import CachedModel, ModelInfo
from cupola.measurements import Measurements
from cupola_server.bench.models import Chosen, record
from server.bench.findings import cell, result, target

INFO = ModelInfo(id="tiny:1", alias="tiny", source="s", publisher="p")
CHOSEN = [Chosen(CachedModel(INFO, Path("x"), 1))]


def test_placement_finds_how_fast_a_model_ran_in_process(tmp_path):
    record(result(100.0), CHOSEN, tmp_path / "measurements.json")
    (kept,) = Measurements(tmp_path / "measurements.json").read()
    assert (kept.model, kept.provider, kept.device) == ("tiny:1", "CPUExecutionProvider", "CPU")
    assert (kept.decode_tokens_per_s, kept.prefill_tokens_per_s) == (100.0, 1000.0)
    assert kept.measured_at_unix > 1_700_000_000


@pytest.mark.parametrize("name", ["http", "in-process-2-threads", "foundry-local-2-tuned"])
def test_other_ways_peers_and_settings_are_not_recorded(tmp_path, name):
    record(result(targets=(target(name, 100.0),)), CHOSEN, tmp_path / "measurements.json")
    assert Measurements(tmp_path / "measurements.json").read() == ()


def test_what_others_disturbed_is_not_recorded(tmp_path):
    noisy = (cell("decode", 1, 64, [{"decode_per_s": 1.0}] * 3, noisy=True),)
    record(result(targets=(target("in-process", 1.0, cells=noisy),)), CHOSEN, tmp_path / "measurements.json")
    assert Measurements(tmp_path / "measurements.json").read() == ()


def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path, caplog):
    (tmp_path / "file").touch()
    record(result(), CHOSEN, tmp_path / "file" / "measurements.json")
    assert "cannot be kept" in caplog.text
