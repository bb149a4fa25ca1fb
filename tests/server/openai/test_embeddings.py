"""POST /v1/embeddings, with the official client and without."""

import base64
import struct

import openai
import pytest

from cupola.errors import InvalidParameterError

pytestmark = pytest.mark.anyio

URL = "/v1/embeddings"


async def test_the_client_gets_a_vector_for_a_text(client, engine):
    reply = await client.embeddings.create(model="embedder", input="hello")
    assert reply.object == "list"
    assert reply.model == "embedder-cpu:1"
    [one] = reply.data
    assert (one.object, one.index, one.embedding) == ("embedding", 0, [5.0, 1.0, -0.5])
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (5, 5)
    [request] = engine.embed_requests
    assert request.inputs == ("hello",)


@pytest.mark.parametrize("numpy", [True, False])
async def test_the_client_reads_vectors_with_numpy_and_without(client, monkeypatch, numpy):
    monkeypatch.setattr("openai.lib._parsing._embeddings.has_numpy", lambda: numpy)
    reply = await client.embeddings.create(model="embedder", input="hello")
    assert reply.data[0].embedding == [5.0, 1.0, -0.5]


async def test_the_client_gets_what_it_asks_for(client):
    for encoding, vector in (("float", [5.0, 1.0, -0.5]), ("base64", "AACgQAAAgD8AAAC/")):
        reply = await client.embeddings.create(model="embedder", input="hello", encoding_format=encoding)
        assert reply.data[0].embedding == vector


@pytest.mark.parametrize("encoding", ["float", None])
async def test_vectors_are_numbers_unless_base64_is_asked_for(http, encoding):
    body = {"model": "embedder", "input": "hello", "encoding_format": encoding}
    assert (await http.post(URL, json=body)).json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [5.0, 1.0, -0.5]}],
        "model": "embedder-cpu:1",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }


async def test_base64_holds_little_endian_32_bit_floats(http):
    body = {"model": "embedder", "input": "hello", "encoding_format": "base64"}
    text = (await http.post(URL, json=body)).json()["data"][0]["embedding"]
    assert struct.unpack("<3f", base64.b64decode(text, validate=True)) == (5.0, 1.0, -0.5)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("hello", ("hello",)),
        (" ", (" ",)),
        (["a", "bcd"], ("a", "bcd")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
async def test_all_four_forms_of_input_reach_the_engine(client, engine, given, inputs):
    reply = await client.embeddings.create(model="embedder", input=given)
    assert engine.embed_requests[0].inputs == inputs
    assert [one.index for one in reply.data] == list(range(len(inputs)))
    assert [one.embedding[0] for one in reply.data] == [len(one) for one in inputs]
    assert reply.usage.total_tokens == sum(map(len, inputs))


async def test_many_inputs_keep_their_order_and_leave_the_worker_room_for_others(client, engine):
    given = ["x" * (n % 90 + 1) for n in range(2048)]
    reply = await client.embeddings.create(model="embedder", input=given)
    assert [one.embedding[0] for one in reply.data] == [len(one) for one in given]
    assert [one.index for one in reply.data] == list(range(2048))
    assert reply.usage.prompt_tokens == sum(map(len, given))
    assert max(len(request.inputs) for request in engine.embed_requests) <= 64


async def test_dimensions_user_and_ttl_are_taken(client, engine):
    extra = {"ttl": 30}
    await client.embeddings.create(model="embedder", input="a", dimensions=2, user="me", extra_body=extra)
    [request] = engine.embed_requests
    assert (request.dimensions, request.ttl_s) == (2, 30)


@pytest.mark.parametrize(
    ("changes", "param", "problem"),
    [
        ({"input": ""}, "input", "it is empty"),
        ({"input": []}, "input", "it has 0 items, but 1 to 2048 are allowed"),
        ({"input": ["a"] * 2049}, "input", "it has 2049 items"),
        ({"input": ["a", ""]}, "input[1]", "it is empty"),
        ({"input": [[]]}, "input[0]", "it is empty"),
        ({"input": [[1], []]}, "input[1]", "it is empty"),
        ({"input": ["a", 1]}, "input[1]", "its type differs"),
        ({"input": [1, [2]]}, "input[1]", "its type differs"),
        ({"input": [[1], "a"]}, "input[1]", "its type differs"),
        ({"input": None}, "input", "expected a string or an array, but got null"),
        ({"input": [1.5]}, "input[0]", "but got a decimal number"),
        ({"input": [-1]}, "input[0]", "at least 0"),
        ({"input": [True]}, "input[0]", "but got a boolean"),
        ({"input": ...}, "input", "'input' is missing"),
        ({"model": ...}, "model", "'model' is missing"),
        ({"dimensions": 0}, "dimensions", "at least 1"),
        ({"encoding_format": "int8"}, "encoding_format", "is not supported"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "Unknown parameter"),
        ({"ttl": -1}, "ttl", "at least 0"),
        ({"input": "x" * 101}, "input", "101 tokens; this model takes 100"),
        ({"input": ["x" * 5] * 70 + ["x" * 102]}, "input[70]", "102 tokens; this model takes 100"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_cannot_be_embedded_is_named_in_a_sentence(http, changes, param, problem):
    body = {"model": "embedder", "input": "hello"} | changes
    reply = await http.post(URL, json={key: value for key, value in body.items() if value is not ...})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == param
    assert problem in error["message"]
    assert error["type"] == "invalid_request_error"


async def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"


async def test_a_refusal_that_is_about_no_input_keeps_its_name(client, engine):
    engine.refusal = InvalidParameterError(param="model", detail="This model makes no embeddings; it answers chats.")
    with pytest.raises(openai.BadRequestError, match="answers chats") as caught:
        await client.embeddings.create(model="tiny", input="a")
    assert caught.value.param == "model"
