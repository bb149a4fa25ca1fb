"""The official client, unchanged, against a real server."""

import openai
import pytest

from cupola.errors import (
    ContextLengthExceededError,
    InvalidParameterError,
    LoadError,
    ModelBusyError,
    ModelNotCachedError,
    NoProviderError,
    QueueFullError,
    RequestError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from cupola.frontend import TurnFinished, Usage

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Say hello."}]


async def test_a_chat_answers_in_one_piece(client, engine):
    reply = await client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_completion_tokens=5)
    assert reply.object == "chat.completion"
    assert reply.id.startswith("chatcmpl-")
    assert reply.model == "tiny-generic-cpu:2"
    [choice] = reply.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == "Hello, world"
    assert choice.finish_reason == "stop"
    assert reply.usage.prompt_tokens == 11
    assert reply.usage.completion_tokens == 3
    assert reply.usage.total_tokens == 14
    assert reply.usage.prompt_tokens_details.cached_tokens == 4
    [request] = engine.requests
    assert request.prompt.messages[0].content == "Say hello."
    assert request.sampling.temperature == 0
    assert request.max_tokens == 5
    assert engine.running == 0


async def test_a_chat_streams(client, engine):
    engine.finish = TurnFinished(1, "length", Usage(11, 3))
    stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello, world"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    assert engine.running == 0


async def test_a_stream_ends_with_the_usage_when_that_is_asked_for(client):
    options = {"include_usage": True}
    stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True, stream_options=options)
    *chunks, last = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.total_tokens == 14
    assert last.usage.prompt_tokens_details.cached_tokens == 4


async def test_the_clients_own_stream_helper_puts_the_answer_together(client):
    async with client.chat.completions.stream(model="tiny", messages=HELLO) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == "Hello, world"


async def test_an_answer_can_be_sent_back_as_the_client_received_it(client, engine):
    reply = await client.chat.completions.create(model="tiny", messages=HELLO)
    for answer in (reply.choices[0].message, reply.choices[0].message.model_dump()):
        await client.chat.completions.create(model="tiny", messages=[*HELLO, answer, *HELLO])
        assert engine.requests[-1].prompt.messages[1].content == "Hello, world"


@pytest.mark.parametrize(
    ("error", "raised", "code", "param"),
    [
        (ModelNotCachedError(model="tiny"), openai.NotFoundError, "model_not_downloaded", "model"),
        (RequestError(detail="The template wants a user first."), openai.BadRequestError, None, None),
        (
            InvalidParameterError(detail="No such token.", param="logit_bias"),
            openai.BadRequestError,
            None,
            "logit_bias",
        ),
        (InvalidParameterError(detail="No provider 'x'.", param="provider"), openai.BadRequestError, None, "ep"),
        (ModelBusyError(model="tiny", turns=2), openai.ConflictError, "model_busy", "model"),
        (QueueFullError(model="tiny", limit=4), openai.RateLimitError, "queue_full", None),
        (LoadError(model="tiny", detail="no memory"), openai.InternalServerError, "model_load_failed", "model"),
        (
            NoProviderError(model="tiny", needs="a GPU", available=""),
            openai.InternalServerError,
            "no_provider",
            "model",
        ),
        (WorkerDiedError(model="tiny", detail="signal 9"), openai.InternalServerError, "worker_died", None),
        (WorkerHungError(model="tiny", limit_s=5), openai.InternalServerError, "worker_hung", None),
        (WorkerError(detail="bad"), openai.InternalServerError, "worker_failed", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_client_raises_its_own_error_for_each_of_ours(client, engine, error, raised, code, param, stream):
    engine.refusal = error
    with pytest.raises(raised) as caught:
        await client.chat.completions.create(model="tiny", messages=HELLO, stream=stream)
    assert caught.value.code == code
    assert caught.value.param == param
    assert caught.value.body["message"] == str(error)
    assert engine.running == 0


async def test_a_prompt_beyond_the_context_is_refused_with_the_three_numbers(client, engine):
    engine.refusal = ContextLengthExceededError(context_length=2048, prompt_tokens=2000, completion_tokens=100)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="tiny", messages=HELLO)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert {"2048", "2000", "100"} <= set(caught.value.body["message"].replace("(", " ").split())


async def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "gpt-4" in caught.value.body["message"]


async def test_a_full_queue_says_when_to_come_back(client, engine):
    engine.refusal = QueueFullError(model="tiny", limit=4, retry_after_s=7)
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="tiny", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "7"


async def test_the_client_does_not_try_again_what_cannot_get_better(client, engine):
    engine.refusal = LoadError(model="tiny", detail="damaged")
    with pytest.raises(openai.InternalServerError):
        await client.with_options(max_retries=2).chat.completions.create(model="tiny", messages=HELLO)
    assert len(engine.requests) == 1


async def test_a_worker_that_dies_in_mid_stream_raises_in_the_client_after_the_text(client, engine):
    engine.script = ("Hel", "lo", WorkerDiedError(model="tiny", detail="signal 9"))
    stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    assert (await anext(stream)).choices[0].delta.content == ""
    text = ""
    while text != "Hello":
        text += (await anext(stream)).choices[0].delta.content
    with pytest.raises(openai.APIError, match="ended unexpectedly") as caught:
        await anext(stream)
    assert caught.value.code == "worker_died"
    assert engine.running == 0


async def test_models_are_listed_if_they_are_here_those_for_embeddings_last(client):
    assert [model.id async for model in client.models.list()] == ["tiny-generic-cpu:2", "embedder-cpu:1"]


@pytest.mark.parametrize("name", ["tiny-generic-cpu:2", "tiny-generic-cpu", "tiny", "TINY"])
async def test_a_model_is_found_by_every_name_it_has(client, name):
    model = await client.models.retrieve(name)
    assert model.id == "tiny-generic-cpu:2"
    assert model.created == 1_700_000_000
    assert model.owned_by == "Tests"
    assert model.alias == "tiny"
    assert model.cached
    assert model.loaded
    assert model.context_length == 2048


async def test_a_model_that_is_not_downloaded_can_be_looked_at(client):
    model = await client.models.retrieve("remote")
    assert not model.cached
    assert model.context_length is None


async def test_looking_at_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("folder/nothing:1")
    assert caught.value.code == "model_not_found"
    assert "folder/nothing:1" in caught.value.body["message"]
