"""The encoding of replies."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cupola.frontend import Usage
from cupola_server.openai.replies import ChunkEncoder
from cupola_server.openai.stream_events import ContentDelta

encodable = st.text(st.characters(exclude_categories=["Cs"]))


@given(model=encodable, texts=st.lists(encodable), include_usage=st.booleans())
def test_a_stream_gives_the_text_back_whatever_is_in_it_and_in_the_models_name(model, texts, include_usage):
    chunks = ChunkEncoder(model, include_usage=include_usage)
    pieces = [chunks.chunk(0, ContentDelta(text)) for text in texts]
    stream = b"".join([chunks.opening(), *pieces, chunks.closing(Usage(1, 2))])
    events = stream.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    decoded = [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
    assert {chunk["model"] for chunk in decoded} == {model}
    assert {"usage" in chunk for chunk in decoded} == {include_usage}
    contents = [choice["delta"].get("content") for chunk in decoded for choice in chunk["choices"]]
    assert contents == ["", *texts]
