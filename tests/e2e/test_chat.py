"""The main job, whole: the real `openai` client, real HTTP, a real worker process and the real starter model."""

import json
import time

import anyio
import httpx
import openai
import pytest

MODEL = "smollm2-135m"
SUM = [{"role": "user", "content": "What is 2+2?"}]
LONG = [{"role": "user", "content": "a " * 9000}]
STORY = [{"role": "user", "content": "Tell me a long story about a dragon."}]


def test_a_chat_is_answered_sensibly_with_usage(service):
    reply = service.openai.chat.completions.create(model=MODEL, messages=SUM, temperature=0, max_tokens=40)
    assert "4" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens > 20
    assert reply.model == "smollm2-135m-instruct-generic-cpu:1"


def test_a_streamed_answer_is_the_same_text_in_pieces_and_usage_comes_last(service):
    whole = service.openai.chat.completions.create(model=MODEL, messages=STORY, temperature=0, max_tokens=50)
    stream = service.openai.chat.completions.create(
        model=MODEL, messages=STORY, temperature=0, max_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 10
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 50


def test_an_asynchronous_client_works_as_well(service):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
            return await client.chat.completions.create(model=MODEL, messages=SUM, temperature=0, max_tokens=20)

    assert anyio.run(ask).choices[0].message.content


def test_seeds_repeat_an_answer_and_different_ones_do_not(service):
    def ask(seed):
        reply = service.openai.chat.completions.create(
            model=MODEL, messages=STORY, temperature=1.2, top_p=0.95, seed=seed, max_tokens=24
        )
        return reply.choices[0].message.content

    assert ask(1) == ask(1)
    assert len({ask(1), ask(2), ask(3)}) > 1


def test_a_stop_string_across_tokens_ends_the_answer_before_it(service):
    ask = service.openai.chat.completions.create
    whole = ask(model=MODEL, messages=STORY, temperature=0, max_tokens=40).choices[0].message.content
    stop = whole[17:29]
    reply = ask(model=MODEL, messages=STORY, temperature=0, max_tokens=40, stop=[stop])
    assert reply.choices[0].message.content == whole[: whole.index(stop)]
    assert reply.choices[0].finish_reason == "stop"


def test_special_tokens_in_a_message_are_plain_text(service):
    def prompt_tokens(content):
        reply = service.openai.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=1
        )
        return reply.usage.prompt_tokens

    # As a control token it would be one token; as text it is several.
    assert prompt_tokens("<|im_end|>") >= prompt_tokens("") + 3


def test_models_are_listed_and_found_under_id_and_alias(service):
    (model,) = [model for model in service.openai.models.list() if model.id.startswith("smollm2")]
    assert service.openai.models.retrieve(model.id).id == service.openai.models.retrieve(MODEL).id == model.id
    with pytest.raises(openai.NotFoundError):
        service.openai.models.retrieve("nothing")


def test_the_answer_is_stopped_when_the_client_leaves(service):
    client = service.openai
    with client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=4000, stream=True) as stream:
        for _, _ in zip(stream, range(5), strict=False):
            pass
    started = time.perf_counter()
    client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=2)
    assert time.perf_counter() - started < 5  # 4,000 tokens would have taken half a minute


@pytest.mark.parametrize(
    ("request_", "status", "code", "said"),
    [
        ({"model": "no-such-model", "messages": SUM}, 404, "model_not_found", "no-such-model"),
        ({"model": MODEL, "messages": []}, 400, None, "messages"),
        ({"model": MODEL, "messages": "hello"}, 400, None, "messages"),
        ({"model": MODEL, "messages": SUM, "temperature": "hot"}, 400, None, "temperature"),
        ({"model": MODEL, "messages": SUM, "temprature": 1}, 400, None, "temprature"),
        ({"model": MODEL, "messages": SUM, "max_tokens": 8192}, 400, "context_length_exceeded", "8192"),
        (
            {"model": MODEL, "messages": [{"role": "user", "content": "a " * 9000}]},
            400,
            "context_length_exceeded",
            "90",
        ),
    ],
)
def test_a_request_that_cannot_be_honoured_is_an_error_object_that_says_why(service, request_, status, code, said):
    reply = httpx.post(f"{service.url}/v1/chat/completions", json=request_, timeout=60)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"] or said == error["param"]
    assert code in (None, error["code"])


def test_a_prompt_beyond_the_context_is_refused_with_the_three_numbers(service):
    with pytest.raises(openai.BadRequestError) as caught:
        service.openai.chat.completions.create(model=MODEL, messages=SUM, max_tokens=8190)
    assert caught.value.code == "context_length_exceeded"
    prompt = service.openai.chat.completions.create(model=MODEL, messages=SUM, max_tokens=1).usage.prompt_tokens
    for number in (8192, prompt, 8190):
        assert str(number) in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": "smollm2-135m"', b"[1]", b"\xff\xfe", b"null"])
def test_a_body_that_is_not_json_is_a_clear_400(service, body):
    reply = httpx.post(f"{service.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert json.loads(reply.content)["error"]["type"] == "invalid_request_error"
