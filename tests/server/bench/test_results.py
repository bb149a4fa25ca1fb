import pytest
from msgspec import structs

from cupola_server.bench.errors import ResultFileError
from cupola_server.bench.results import CellResult, Sample, Times, joined, read, write
from cupola_server.bench.statistics import Histogram
from server.bench.findings import PLAN, cell, result, target


def test_what_was_stored_is_read_again(tmp_path):
    file = tmp_path / "a.json"
    write(result(), file)
    assert read(file) == result()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "is not one that `cupola bench` wrote"), ('{"format": "x"}', "is not one"), (None, "cannot be read")],
)
def test_other_files_are_refused_by_name(tmp_path, text, sentence):
    file = tmp_path / "b.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ResultFileError, match=sentence) as error:
        read(file)
    assert str(file) in str(error.value)


def test_a_result_of_another_format_is_refused(tmp_path):
    write(result(format="cupola-bench/99"), tmp_path / "c.json")
    with pytest.raises(ResultFileError, match="cupola-bench/99"):
        read(tmp_path / "c.json")


def test_a_folder_that_is_missing_is_told(tmp_path):
    with pytest.raises(ResultFileError, match="cannot be written"):
        write(result(), tmp_path / "missing" / "a.json")


def test_rounds_of_a_second_piece_stand_behind_those_of_the_first(tmp_path):
    both = joined(result(100.0), result(200.0, pieces=("2",)), tmp_path / "a.json")
    figure = both.target("http").cell("decode", 1).figure("decode_per_s")
    assert len(figure.values) == 6
    assert figure.median == pytest.approx(0.9 * 150, rel=0.1)
    assert [times.total for times in both.target("http").cell("decode", 4).times("ttft")] == [4] * 6
    assert both.target("http").load_s == (1.5, 1.5)
    assert both.pieces == ("1", "2")
    assert len(both.curves) == 1


def test_a_target_that_was_skipped_at_first_comes_in_with_the_second_piece(tmp_path):
    other = target("other", 50.0)
    second = structs.replace(result(), targets=(*result().targets, other), skipped=())
    both = joined(result(), second, tmp_path / "a.json")
    assert both.target("other") == other
    assert both.skipped == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"plan": structs.replace(PLAN, new_tokens=9)}, "plan"),
        ({"machine": structs.replace(result().machine, cores=64)}, "machine"),
        ({"targets": (target("http", 1.0, cells=()),)}, None),
    ],
)
def test_pieces_of_other_runs_are_not_put_together(tmp_path, change, what):
    second = structs.replace(result(), **change)
    if what:
        with pytest.raises(ResultFileError, match=f"is of another {what}"):
            joined(result(), second, tmp_path / "a.json")
    else:
        changed = structs.replace(second, targets=(structs.replace(second.targets[0], model_digest="e"),))
        with pytest.raises(ResultFileError, match="another model under the name 'http'"):
            joined(result(), changed, tmp_path / "a.json")


def test_a_value_that_was_not_taken_has_no_figure():
    assert cell("decode", 1, 64, [{"ttft_ms": 1.0}]).figure("energy_j_per_token") is None


def test_a_disturbed_round_does_not_count_where_a_quiet_one_does():
    quiet, noisy = Sample({"decode_per_s": 100.0}, 0.0), Sample({"decode_per_s": 40.0}, 0.9, noisy=True)
    mixed = CellResult("decode", 1, 64, 8, (quiet, noisy, quiet))
    assert mixed.figure("decode_per_s").values == (100.0, 100.0)
    assert not mixed.is_noisy
    assert CellResult("decode", 1, 64, 8, (noisy, noisy)).figure("decode_per_s").values == (40.0, 40.0)


def test_times_of_a_disturbed_round_count_only_where_no_other_round_has_any():
    few, many = Histogram.of([0.01]), Histogram.of([0.01, 0.02])
    quiet, noisy = Sample({}, 0.0, times=Times(ttft=few)), Sample({}, 0.9, noisy=True, times=Times(ttft=many))
    assert CellResult("decode", 1, 64, 8, (quiet, noisy)).times("ttft") == [few]
    assert CellResult("decode", 1, 64, 8, (noisy,)).times("ttft") == [many]
    assert CellResult("decode", 1, 64, 8, (noisy,)).times("gaps") == []


def test_a_ratio_is_taken_between_values_of_the_same_round():
    def rounds(*speeds, noisy=()):
        return tuple(Sample({"decode_per_s": each}, 0.0, noisy=n in noisy) for n, each in enumerate(speeds))

    mine = CellResult("decode", 1, 64, 8, rounds(20.0, 200.0, 30.0))
    theirs = CellResult("decode", 1, 64, 8, rounds(10.0, 100.0, 1.0, noisy={2}))
    assert mine.over(theirs, "decode_per_s").values == (2.0, 2.0)
    assert mine.over(theirs, "ttft_ms") is None
