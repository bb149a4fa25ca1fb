"""How deep JSON is nested, as a law."""

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from cupola_server.openai.decoding import DEPTH_LIMIT, is_too_deep

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{}é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='k"\\[{', max_size=3), inner, max_size=4)
    ),
    max_leaves=40,
)


def depth_of(value):
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(0, 2 * DEPTH_LIMIT), st.booleans())
def test_depth_is_what_brackets_outside_strings_make(value, more, as_objects):
    for _ in range(more):
        value = {"a": value} if as_objects else [value]
    assert is_too_deep(json.dumps(value).encode()) == (depth_of(value) > DEPTH_LIMIT)


def test_it_takes_time_in_proportion_to_the_body_alone():
    hostile = [b'"' + b'\\"' * 500_000, b'"\\' * 500_000, b'"' * 1_000_000, b"[]" * 500_000, b"[" * 1_000_000]
    started = time.process_time()
    for body in hostile:
        is_too_deep(body)
    assert time.process_time() - started < 3
