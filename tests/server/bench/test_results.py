import pytest

from cupola_server.bench.errors import ResultFileError
from cupola_server.bench.results import CellResult, Sample, Times, read_result, write_result
from cupola_server.bench.statistics import Histogram
from server.bench.example_results import cell, result


def test_a_stored_result_is_read_back(tmp_path):
    file = tmp_path / "a.json"
    write_result(result(), file)
    assert read_result(file) == result()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "is not a result of `cupola bench`"), ('{"format": "x"}', "is not a result of"), (None, "cannot be read")],
)
def test_the_error_for_another_file_has_its_path(tmp_path, text, sentence):
    file = tmp_path / "b.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ResultFileError, match=sentence) as error:
        read_result(file)
    assert str(file) in str(error.value)


def test_a_result_of_another_format_is_an_error(tmp_path):
    write_result(result(format="cupola-bench/99"), tmp_path / "c.json")
    with pytest.raises(ResultFileError, match="cupola-bench/99"):
        read_result(tmp_path / "c.json")


def test_writing_to_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ResultFileError, match="cannot be written"):
        write_result(result(), tmp_path / "missing" / "a.json")


def test_a_value_that_was_not_measured_has_no_figure():
    assert cell("decode", 1, 64, [{"ttft_ms": 1.0}]).figure("energy_j_per_token") is None


def test_a_disturbed_round_does_not_count_beside_a_quiet_one():
    quiet, noisy = Sample({"decode_per_s": 100.0}, 0.0), Sample({"decode_per_s": 40.0}, 0.9, noisy=True)
    mixed = CellResult("decode", 1, 64, 8, (quiet, noisy, quiet))
    assert mixed.figure("decode_per_s").values == (100.0, 100.0)
    assert not mixed.is_noisy
    assert CellResult("decode", 1, 64, 8, (noisy, noisy)).figure("decode_per_s").values == (40.0, 40.0)


def test_times_of_a_disturbed_round_count_only_without_quiet_rounds():
    few, many = Histogram.from_times([0.01]), Histogram.from_times([0.01, 0.02])
    quiet, noisy = Sample({}, 0.0, times=Times(ttft=few)), Sample({}, 0.9, noisy=True, times=Times(ttft=many))
    assert CellResult("decode", 1, 64, 8, (quiet, noisy)).times("ttft") == [few]
    assert CellResult("decode", 1, 64, 8, (noisy,)).times("ttft") == [many]
    assert CellResult("decode", 1, 64, 8, (noisy,)).times("gaps") == []


def test_a_ratio_is_between_values_of_the_same_round():
    def rounds(*speeds, noisy=()):
        return tuple(Sample({"decode_per_s": speed}, 0.0, noisy=n in noisy) for n, speed in enumerate(speeds))

    own = CellResult("decode", 1, 64, 8, rounds(20.0, 200.0, 30.0))
    other = CellResult("decode", 1, 64, 8, rounds(10.0, 100.0, 1.0, noisy={2}))
    assert own.ratio_to(other, "decode_per_s").values == (2.0, 2.0)
    assert own.ratio_to(other, "ttft_ms") is None
