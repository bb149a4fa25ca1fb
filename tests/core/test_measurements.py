"""Measurements are kept, replaced, and never in the way."""

import logging

import pytest

from cupola.measurements import Measurement, Measurements

FAST = Measurement(model="tiny-generic-cpu:1", provider="CPUExecutionProvider", device="CPU", decode_tokens_per_s=60.0)


def test_what_was_recorded_is_read_by_the_next_process(tmp_path):
    path = tmp_path / "deep" / "measurements.json"
    Measurements(path).record(FAST)
    assert list(Measurements(path).read()) == [FAST]
    assert [file.name for file in path.parent.iterdir()] == ["measurements.json"]


def test_a_measurement_takes_the_place_of_an_earlier_one_of_the_same_and_of_no_other(tmp_path):
    measurements = Measurements(tmp_path / "measurements.json")
    elsewhere = Measurement(model=FAST.model, provider="OtherExecutionProvider", device="CPU", decode_tokens_per_s=9.0)
    again = Measurement(model=FAST.model.upper(), provider=FAST.provider, device="CPU", decode_tokens_per_s=50.0)
    for each in (FAST, elsewhere, again):
        measurements.record(each)
    assert {each.decode_tokens_per_s for each in measurements.read()} == {9.0, 50.0}


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"model": "x"}]'])
def test_a_damaged_file_counts_as_none_and_is_mended_by_the_next_record(tmp_path, content, caplog):
    path = tmp_path / "measurements.json"
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert list(Measurements(path).read()) == []
    assert str(path) in caplog.text
    Measurements(path).record(FAST)
    assert list(Measurements(path).read()) == [FAST]


def test_a_file_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "measurements.json").mkdir()
    with pytest.raises(OSError, match=r"measurements\.json"):
        Measurements(tmp_path / "measurements.json").record(FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["measurements.json"]
