"""POST /v1/completions, with the official client and without."""

import anyio
import openai
import pytest

from cupola.errors import ContextLengthExceededError, InvalidParameterError, WorkerDiedError
from cupola.frontend import Guidance, TextPrompt, TokenLogprob, TokenPrompt, TurnFinished, TurnText, Usage

pytestmark = pytest.mark.anyio

URL = "/v1/completions"
SMILE = "\N{GRINNING FACE}".encode()
WORDS = (
    TurnText(1, "Hel", 1, (TokenLogprob(b"Hel", -0.5, ((b"Hel", -0.5), (b"Hal", -1.5))),)),
    TurnText(1, "", 1, (TokenLogprob(SMILE[:2], -2.0, ((b"lo", -0.25), (SMILE[:2], -2.0))),)),
    TurnText(1, SMILE.decode(), 1, (TokenLogprob(SMILE[2:], float("-inf"), ((b"lo", -0.25),)),)),
    TurnText(1, "!", 1, (TokenLogprob(b"!", -1.0),)),
)


async def test_a_text_is_continued(client, engine):
    reply = await client.completions.create(model="tiny", prompt="Once upon", temperature=0)
    assert reply.object == "text_completion"
    assert reply.id.startswith("cmpl-")
    assert reply.model == "tiny-generic-cpu:2"
    [choice] = reply.choices
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "Hello, world", "stop", None)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (11, 3, 14)
    assert reply.usage.prompt_tokens_details.cached_tokens == 4
    [request] = engine.requests
    assert request.prompt == TextPrompt("Once upon")
    assert request.max_tokens == 16
    assert request.top_logprobs is None
    assert engine.running == 0


async def test_it_streams(client, engine):
    engine.finish = TurnFinished(1, "length", Usage(11, 3))
    stream = await client.completions.create(model="tiny", prompt="Once", stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello, world"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_tells_the_usage_of_all_answers_at_its_end_when_asked(client):
    options = {"include_usage": True}
    stream = await client.completions.create(model="tiny", prompt=["a", "b"], n=2, stream=True, stream_options=options)
    *chunks, last = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (22, 12)
    assert last.usage.prompt_tokens_details.cached_tokens == 8


async def test_every_parameter_reaches_the_engine(client, engine):
    await client.completions.create(
        model="tiny",
        prompt="a",
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["x", "y"],
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"5": 3},
        logprobs=2,
        user="me",
        n=1,
        best_of=1,
        suffix="",
        echo=False,
        extra_body={
            "top_k": 4,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
            "ignore_eos": True,
            "min_tokens": 3,
            "stop_token_ids": [8],
            "guided_regex": "[ab]+",
            "ttl": 60,
        },
    )
    [request] = engine.requests
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 4, 0.1)
    assert (sampling.seed, sampling.logit_bias, sampling.repetition_penalty) == (7, {5: 3}, 1.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, -1)
    assert (request.max_tokens, request.min_tokens, request.stop, request.stop_token_ids) == (9, 3, ("x", "y"), (8,))
    assert (request.ignore_eos, request.top_logprobs, request.ttl_s) == (True, 2, 60)
    assert request.guidance == Guidance("regex", "[ab]+", "guided_regex")


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("a", [TextPrompt("a")]),
        (["a", "b"], [TextPrompt("a"), TextPrompt("b")]),
        ([5, 6], [TokenPrompt((5, 6))]),
        ([[5, 6], [7]], [TokenPrompt((5, 6)), TokenPrompt((7,))]),
    ],
)
async def test_all_four_forms_of_a_prompt_are_answered(client, engine, given, prompts):
    reply = await client.completions.create(model="tiny", prompt=given)
    assert [request.prompt for request in engine.requests] == prompts
    assert [choice.index for choice in reply.choices] == list(range(len(prompts)))
    assert reply.usage.prompt_tokens == 11 * len(prompts)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answers_to_several_prompts_run_at_the_same_time_and_are_numbered_prompt_by_prompt(
    client, engine, stream
):
    gate = anyio.Event()
    engine.script = ("Hello", gate)
    answers = {}

    async def ask():
        reply = await client.completions.create(model="tiny", prompt=["a", "b"], n=3, seed=5, stream=stream)
        chunks = [reply] if not stream else [chunk async for chunk in reply]
        for choice in (choice for chunk in chunks for choice in chunk.choices):
            answers[choice.index] = answers.get(choice.index, "") + choice.text

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        while engine.running < 6:
            await anyio.lowlevel.checkpoint()
        gate.set()
    assert answers == dict.fromkeys(range(6), "Hello")
    assert [request.prompt.text for request in engine.requests] == ["a"] * 3 + ["b"] * 3
    assert [request.sampling.seed for request in engine.requests] == [5, 6, 7] * 2
    assert engine.running == 0


async def test_best_of_may_be_the_number_of_answers(client):
    assert len((await client.completions.create(model="tiny", prompt="a", n=2, best_of=2)).choices) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("prompt", "echo"), [("Once ", "Once "), ([72, 105], "Hi")])
async def test_echo_puts_the_prompt_before_the_answer(client, prompt, echo, stream):
    reply = await client.completions.create(model="tiny", prompt=prompt, echo=True, stream=stream)
    chunks = [reply] if not stream else [chunk async for chunk in reply]
    assert "".join(chunk.choices[0].text for chunk in chunks) == f"{echo}Hello, world"


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_come_in_the_older_shape(client, engine, stream):
    engine.script = WORDS
    reply = await client.completions.create(model="tiny", prompt="a", logprobs=2, stream=stream)
    chunks = [reply] if not stream else [chunk async for chunk in reply]
    found = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    first, second = r"bytes:\xf0\x9f", r"bytes:\x98\x80"
    assert [name for one in found for name in one.tokens] == ["Hel", first, second, "!"]
    assert [value for one in found for value in one.token_logprobs] == [-0.5, -2.0, -9999.0, -1.0]
    assert [top for one in found for top in one.top_logprobs] == [
        {"Hel": -0.5, "Hal": -1.5},
        {"lo": -0.25, first: -2.0},
        {"lo": -0.25, second: -9999.0},
        {"!": -1.0},
    ]
    assert [offset for one in found for offset in one.text_offset] == [0, 3, 3, 4]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hel\N{GRINNING FACE}!"


@pytest.mark.parametrize(
    ("changes", "param", "problem"),
    [
        ({"prompt": ...}, "prompt", "is missing"),
        ({"prompt": ""}, "prompt", "it is empty"),
        ({"prompt": []}, "prompt", "it has 0 items"),
        ({"prompt": ["a", ""]}, "prompt[1]", "it is empty"),
        ({"prompt": ["a", [1]]}, "prompt[1]", "its type differs"),
        ({"prompt": ["a"] * 65}, "prompt", "it has 65 items, but 1 to 64 are allowed"),
        ({"prompt": ["a"] * 10, "n": 7}, "n", "10 prompts with 7 choices"),
        ({"suffix": "end"}, "suffix", "insertion is not supported"),
        ({"best_of": 3}, "best_of", "not supported"),
        ({"best_of": 3, "n": 2}, "best_of", "not supported"),
        ({"echo": True, "logprobs": 1}, "logprobs", "cannot be used with 'echo'"),
        ({"echo": True, "logprobs": 0}, "logprobs", "cannot be used with 'echo'"),
        ({"logprobs": 6}, "logprobs", "at most 5"),
        ({"logprobs": True}, "logprobs", "but got a boolean"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"min_tokens": 17}, "min_tokens", "limited to 16 tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "together with 'stream'"),
        ({"stop": ["x"] * 17}, "stop", "at most 16"),
        ({"messages": []}, "messages", "Unknown parameter"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "Unknown parameter"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "only one"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_cannot_be_honoured_is_named_in_a_sentence(http, engine, changes, param, problem):
    body = {"model": "tiny", "prompt": "a"} | changes
    reply = await http.post(URL, json={key: value for key, value in body.items() if value is not ...})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == param
    assert problem in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(("prompt", "param"), [("a", "prompt"), (["a"], "prompt[0]")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_beyond_the_context_is_named_by_its_own_name(client, engine, prompt, param, stream):
    engine.refusal = ContextLengthExceededError(context_length=2048, prompt_tokens=2000, completion_tokens=100)
    with pytest.raises(openai.BadRequestError, match="2048") as caught:
        await client.completions.create(model="tiny", prompt=prompt, stream=stream)
    assert (caught.value.param, caught.value.code) == (param, "context_length_exceeded")
    assert engine.running == 0


@pytest.mark.parametrize(("refused", "named"), [("prompt", "prompt[0]"), ("logit_bias", "logit_bias")])
async def test_what_the_engine_refuses_about_a_prompt_is_named_with_its_number(client, engine, refused, named):
    engine.refusal = InvalidParameterError(param=refused, detail="There is no such token.")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="tiny", prompt=["a"])
    assert caught.value.param == named


async def test_a_worker_that_dies_in_mid_stream_raises_in_the_client_after_the_text(client, engine):
    engine.script = ("Hel", WorkerDiedError(model="tiny", detail="signal 9"))
    stream = await client.completions.create(model="tiny", prompt=["a", "b"], stream=True)
    with pytest.raises(openai.APIError, match="ended unexpectedly") as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "worker_died"
    assert engine.running == 0


async def test_a_client_that_leaves_ends_the_turns_of_all_prompts(client, engine):
    engine.script = ("Hello", anyio.Event())
    stream = await client.completions.create(model="tiny", prompt=["a", "b"], stream=True)
    async for chunk in stream:
        if chunk.choices[0].text:
            break
    await stream.close()
    with anyio.fail_after(10):
        while engine.running:
            await anyio.lowlevel.checkpoint()
