"""Comparing two results, and merging the rounds of two runs."""

import pytest
from msgspec import structs

from cupola_server.bench.comparison import compare_results, find_regressions, merge_results
from cupola_server.bench.errors import ResultFileError
from server.bench.example_results import PLAN, cell, result, target


@pytest.mark.parametrize(
    ("speed", "threshold", "fails"), [(100, 5, False), (95, 6, False), (80, 5, True), (80, 50, False)]
)
def test_a_regression_is_past_the_threshold_and_outside_the_spread(speed, threshold, fails):
    found = compare_results(result(100.0), result(float(speed)))
    assert bool(find_regressions(found, threshold)) is fails


def test_more_milliseconds_are_a_regression():
    slower = [{"ttft_ms": 30.0, "prefill_per_s": 1000.0}] * 3
    cells = tuple(kept for kept in target("http", 90.0).cells if kept.kind != "prefill")
    after = structs.replace(result(), targets=(target("http", 90.0, cells=(*cells, cell("prefill", 1, 256, slower))),))
    (worse,) = find_regressions(compare_results(result(), after), 10)
    assert worse.what == "Time to the first token: prompt of 256"
    assert worse.worse_percent == pytest.approx(50)


def test_rounds_of_a_second_run_follow_those_of_the_first(tmp_path):
    both = merge_results(result(100.0), result(200.0, pieces=("2",)), tmp_path / "a.json")
    figure = both.target("http").cell("decode", 1).figure("decode_per_s")
    assert len(figure.values) == 6
    assert figure.median == pytest.approx(0.9 * 150, rel=0.1)
    assert [times.total for times in both.target("http").cell("decode", 4).times("ttft")] == [4] * 6
    assert both.target("http").load_s == (1.5, 1.5)
    assert both.pieces == ("1", "2")
    assert len(both.curves) == 1


def test_a_target_that_the_first_run_skipped_is_added_by_the_second(tmp_path):
    other = target("other", 50.0)
    second = structs.replace(result(), targets=(*result().targets, other), skipped=())
    both = merge_results(result(), second, tmp_path / "a.json")
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
def test_runs_with_other_plans_machines_or_models_are_not_merged(tmp_path, change, what):
    second = structs.replace(result(), **change)
    if what:
        with pytest.raises(ResultFileError, match=f"was measured with a different {what}"):
            merge_results(result(), second, tmp_path / "a.json")
    else:
        changed = structs.replace(second, targets=(structs.replace(second.targets[0], model_digest="e"),))
        with pytest.raises(ResultFileError, match="a different model under the name 'http'"):
            merge_results(result(), changed, tmp_path / "a.json")
