import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.messages import GenerateRequest, TextPrompt
from cupola.protocol import Cancel, Submit, ToWorker
from cupola.worker.frames import FrameReader, encode

messages = st.lists(
    st.builds(Cancel, st.integers(0, 2**31))
    | st.builds(Submit, st.integers(0, 9), st.builds(GenerateRequest, st.text(), st.builds(TextPrompt, st.text())))
)


@given(messages, st.lists(st.integers(1, 40)))
def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut(sent, cuts):
    stream = b"".join(map(encode, sent))
    reader = FrameReader(ToWorker)
    received = []
    for size in [*cuts, len(stream)]:
        received += reader.feed(stream[:size])
        stream = stream[size:]
    received += reader.feed(stream)
    assert received == sent


def test_a_stream_that_is_not_ours_is_refused():
    with pytest.raises(ValueError, match="longer than"):
        list(FrameReader(ToWorker).feed(b"GET / HTTP/1.1\r\n"))
