"""Memory budgets become slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola_providers.runtime.slots.memory import MOST_SLOTS, SHORTEST_LENGTH, SlotPlan
from cupola_providers.runtime.slots.table import PASS_COST, chunk_length, select_packed


@pytest.mark.parametrize(
    ("tokens", "context", "slots", "length"),
    [
        (6 * 8192, 8192, 6, 8192),  # whole contexts
        (10**7, 8192, 16, 8192),  # more than enough
        (10_000, 2048, 4, 2048),
        (5_000, 8192, 1, 5_000),  # less than one context
        (60_000, 131_072, 4, 15_000),  # a long context is shortened for the sake of several turns
        (20_000, 131_072, 2, 8192),  # but not below 8192
        (300, 256, 1, 256),  # a short context may be as short as it is
    ],
)
def test_a_budget_is_divided(tokens, context, slots, length):
    plan = SlotPlan.for_budget(tokens * 100 + 99, bytes_per_token=100, context_length=context)
    assert plan == SlotPlan(slots, length)


@given(st.integers(0, 10**12), st.integers(1, 10**6), st.integers(1, 200_000))
def test_a_plan_keeps_to_its_budget_and_to_the_context(budget, bytes_per_token, context):
    plan = SlotPlan.for_budget(budget, bytes_per_token=bytes_per_token, context_length=context)
    if plan is None:
        assert budget // bytes_per_token < min(context, SHORTEST_LENGTH)
    else:
        assert plan.slots * plan.length * bytes_per_token <= budget
        assert 1 <= plan.slots <= MOST_SLOTS
        assert plan.length <= context


@given(st.integers(1, 2000), st.integers(3, 256))
def test_a_prompt_is_cut_such_that_no_token_is_alone(length, chunk):
    cuts = []
    while length:
        cuts.append(chunk_length(length, chunk))
        length -= cuts[-1]
    assert max(cuts) <= chunk
    assert len(cuts) == 1 or min(cuts) >= 2


@given(st.lists(st.integers(2, 200), min_size=1, max_size=16), st.data(), st.integers(1, 256))
def test_prompts_share_a_pass_only_where_it_pays(lengths, data, most):
    lead = data.draw(st.integers(0, len(lengths) - 1))
    chosen = select_packed(lengths, lead, most)
    assert chosen.start <= lead < chosen.stop
    part = lengths[chosen]
    if len(part) > 1:
        assert len(part) * max(part) <= most
        assert len(part) * max(part) <= sum(part) + PASS_COST * (len(part) - 1)


def test_many_equal_prompts_fill_a_pass():
    assert select_packed([10] * 8, 3, 128) == slice(0, 8)
    assert select_packed([50] * 8, 3, 128) == slice(3, 5)
    assert select_packed([100, 5], 0, 512) == slice(0, 1)
