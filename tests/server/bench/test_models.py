from pathlib import Path

import pytest

from cupola.frontend import CachedModel, ModelInfo
from cupola.measurements import Measurements
from cupola_server.bench.models import SelectedModel, record_measurements
from server.bench.example_results import cell, result, target

INFO = ModelInfo(id="tiny:1", alias="tiny", source="s", publisher="p")
SELECTED = [SelectedModel(CachedModel(INFO, Path("x"), 1))]


def test_the_speed_of_a_model_in_process_is_recorded_for_placement(tmp_path):
    record_measurements(result(100.0), SELECTED, tmp_path / "measurements.json")
    (kept,) = Measurements(tmp_path / "measurements.json").read()
    assert (kept.model, kept.provider, kept.device) == ("tiny:1", "CPUExecutionProvider", "CPU")
    assert (kept.decode_tokens_per_s, kept.prefill_tokens_per_s) == (100.0, 1000.0)
    assert kept.measured_at_unix > 1_700_000_000


@pytest.mark.parametrize("name", ["http", "in-process-2-threads", "foundry-local-2-tuned"])
def test_other_interfaces_settings_and_peers_are_not_recorded(tmp_path, name):
    record_measurements(result(targets=(target(name, 100.0),)), SELECTED, tmp_path / "measurements.json")
    assert Measurements(tmp_path / "measurements.json").read() == ()


def test_a_disturbed_measurement_is_not_recorded(tmp_path):
    noisy = (cell("decode", 1, 64, [{"decode_per_s": 1.0}] * 3, noisy=True),)
    record_measurements(
        result(targets=(target("in-process", 1.0, cells=noisy),)), SELECTED, tmp_path / "measurements.json"
    )
    assert Measurements(tmp_path / "measurements.json").read() == ()


def test_a_file_that_cannot_be_written_is_logged(tmp_path, caplog):
    (tmp_path / "file").touch()
    record_measurements(result(), SELECTED, tmp_path / "file" / "measurements.json")
    assert "cannot be recorded" in caplog.text
