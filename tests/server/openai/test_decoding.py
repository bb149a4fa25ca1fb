"""Decoding bodies: whatever comes in, what comes out is a request or an error with a sentence."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cupola.errors import RequestError
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import BodyError, FieldError
from cupola_server.openai.schema import ChatRequest

decoder = BodyDecoder(ChatRequest)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(ChatRequest.__struct_fields__) | st.text()
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | values},
    optional={"content": values | st.lists(st.fixed_dictionaries({"type": values, "text": values})), "name": values},
)


@given(st.binary())
@example(b"{}")
def test_bytes_become_a_request_or_an_error_that_says_why(body):
    with pytest.raises((BodyError, FieldError), match=r"\.\Z"):  # an empty object, {}, is one that lacks fields
        decoder.decode(body)


@given(st.dictionaries(names, values), st.lists(messages, max_size=3) | values)
def test_objects_become_a_request_or_an_error_that_names_a_field(fields, conversation):
    body = json.dumps({"model": "tiny", **fields, "messages": conversation}).encode()
    refusal = refusal_of(body)
    assert refusal is None or str(refusal).endswith(".")
    assert len(str(refusal)) < 400
    if isinstance(refusal, FieldError):
        assert len(refusal.param) < 200


def refusal_of(body):
    try:
        decoder.decode(body)
    except RequestError as refusal:
        return refusal


def test_the_fault_of_a_body_is_never_that_of_the_service():
    assert issubclass(BodyError, RequestError)
    assert issubclass(FieldError, RequestError)
