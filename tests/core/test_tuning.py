import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.errors import RequestError
from cupola.frontend import ModelInfo, TokenLogprob
from cupola.tuning import Trial
from cupola.tuning.quality import TextScore, divergence, divergence_at, score_text
from cupola.tuning.search import best, variant_of

SOURCE = Trial("int8-rows", decode_per_s=100, batch_per_s=500, divergence=0.0)
FAST_ALONE = Trial("int4-blocks", decode_per_s=150, batch_per_s=300, divergence=0.08)
FAR = Trial("int4-blocks-64", decode_per_s=900, batch_per_s=900, divergence=0.3)
BROKEN = Trial("int8-blocks", decode_per_s=999, problem="it does not load")


def test_the_goal_decides_among_layouts_that_are_near_enough():
    trials = [SOURCE, FAST_ALONE, FAR, BROKEN]
    assert best(trials, "latency", 0.1) is FAST_ALONE
    assert best(trials, "throughput", 0.1) is SOURCE
    assert best(trials, "latency", 1.0) is FAR


def test_a_source_that_does_not_run_wins_when_nothing_else_does():
    assert best([BROKEN], "latency", 0.1) is BROKEN


@pytest.mark.parametrize(
    ("id_", "expected"),
    [("phi-4-generic-cpu:3", "phi-4-int4-blocks-generic-cpu:3"), ("mine:1", "mine-int4-blocks:1")],
)
def test_a_variant_keeps_alias_version_and_device_suffix(id_, expected):
    info = variant_of(ModelInfo(id=id_, alias="a", source="s", publisher="p"), "int4-blocks")
    assert (info.id, info.alias, info.parent, info.source) == (expected, "a", id_, "tuned")


weights = st.lists(st.floats(0.01, 1), min_size=2, max_size=8)


@given(weights, weights)
def test_the_divergence_is_none_from_itself_and_never_negative_nor_above_the_true_one(p, q):
    size = min(len(p), len(q))
    p, q = ([value / sum(x[:size]) for value in x[:size]] for x in (p, q))
    source = {bytes([i]): math.log(value) for i, value in enumerate(p)}
    other = {bytes([i]): math.log(value) for i, value in enumerate(q)}
    true = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert divergence_at(source, source) == pytest.approx(0, abs=1e-9)
    assert divergence_at(source, other) == pytest.approx(true, abs=1e-6)
    part = dict(list(other.items())[:-1])
    assert -1e-9 <= divergence_at(source, part) <= true + 1e-6


def test_a_model_that_knows_the_text_has_the_least_perplexity():
    assert TextScore([], (0.0, 0.0)).perplexity == 1.0
    assert TextScore([], (math.log(0.25), math.log(0.25))).perplexity == pytest.approx(4.0)
    assert math.isnan(TextScore([], ()).perplexity)


def test_without_predictions_there_is_no_divergence():
    assert divergence([], [{b"a": 0.0}]) is None
    assert divergence([{b"a": 0.0}], [{b"a": 0.0}]) == 0.0


@pytest.mark.anyio
async def test_every_token_of_the_text_is_forced_in_its_place():
    asked = []

    async def run(request):
        asked.append(request)
        return [TokenLogprob(b"x", -1.0, ((b"x", -1.0), (b"y", -2.0)))]

    reading = await score_text(run, range(10, 17), "m")
    assert [(len(r.prompt.tokens), *r.sampling.logit_bias) for r in asked] == [(4, 14), (5, 15), (6, 16)]
    assert reading.tops == [{b"x": -1.0, b"y": -2.0}] * 3
    assert reading.perplexity == pytest.approx(math.e)


@pytest.mark.anyio
async def test_a_session_without_log_probabilities_reads_nothing():
    async def run(request):
        raise RequestError(detail="no log probabilities here")

    assert await score_text(run, range(10)) == TextScore([], ())
