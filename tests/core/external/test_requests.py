"""Models elsewhere, against a service on loopback: what is asked, and what comes back."""

import pytest

from core.external.exchanges import ASK, events_of
from cupola.errors import ExternalServiceError, InvalidParameterError, ModelNotFoundError, RequestError
from cupola.frontend import (
    ChatPrompt,
    EmbedRequest,
    Guidance,
    Message,
    Sampling,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    Tool,
    ToolCall,
    ToolUse,
    TurnCall,
    TurnFinished,
    TurnReasoning,
    TurnText,
    Usage,
)
from openai_stand_in import KEY, chunk

pytestmark = pytest.mark.anyio


async def test_an_answer_comes_as_text_and_an_end_with_its_counts(opened, service):
    async with opened() as engine:
        *texts, end = await events_of(engine)
    assert "".join(event.text for event in texts) == "Hello from elsewhere"
    assert end == TurnFinished(0, "stop", Usage(7, 3, 2))
    ((path, headers, body),) = service.asked
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "big",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_every_parameter_passes_through_and_nothing_that_was_not_asked_for(opened, service):
    options = {
        "sampling": Sampling(0.5, 4, 0.9, 0.1, 1.1, 0.2, 0.3, {17: -5.0}, 42),
        "max_tokens": 9,
        "min_tokens": 2,
        "stop": ("a", "b"),
        "stop_token_ids": (3,),
        "ignore_eos": True,
        "top_logprobs": 2,
        "ttl_s": 5.0,
        "reasoning_effort": "low",
        "guidance": Guidance("json_schema", '{"type":"object"}'),
    }
    async with opened(max_tokens_field="max_completion_tokens") as engine:
        await events_of(engine, **options)
    body = service.asked[0][2]
    for name in ("model", "messages", "stream", "stream_options"):
        del body[name]
    assert body == {
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "logit_bias": {"17": -5.0},
        "seed": 42,
        "max_completion_tokens": 9,
        "min_tokens": 2,
        "stop": ["a", "b"],
        "stop_token_ids": [3],
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }


@pytest.mark.parametrize(
    ("guidance", "sent"),
    [
        (Guidance("json_object"), {"response_format": {"type": "json_object"}}),
        (Guidance("regex", "a+"), {"guided_regex": "a+"}),
        (Guidance("lark", "start: A"), {"guided_grammar": "start: A"}),
        (Guidance("choice", '["a","b"]'), {"guided_choice": ["a", "b"]}),
    ],
)
async def test_guidance_takes_the_form_that_services_know(opened, service, guidance, sent):
    async with opened() as engine:
        await events_of(engine, guidance=guidance)
    assert sent.items() <= service.asked[0][2].items()


async def test_tools_and_their_history_go_as_they_are_and_calls_come_back_told_apart(opened, service):
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "weather", "arguments": ""}}
    service.script = [
        chunk({"reasoning_content": "Let me see."}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]}),
        chunk(finish="tool_calls"),
        "done",
    ]
    messages = (
        Message("user", "Hi"),
        Message("assistant", "", tool_calls=(ToolCall("call_1", "weather", "{}"),), reasoning_content="Hm."),
        Message("tool", "rain", tool_call_id="call_1"),
    )
    tools = (Tool("weather", "Tells it", {"type": "object"}), Tool("time"))
    use = ToolUse("required", "weather", parallel=False, strict=("weather",))
    async with opened() as engine:
        events = await events_of(engine, prompt=ChatPrompt(messages, tools, {"enable_thinking": True}), tool_use=use)
    assert events[:-1] == [
        TurnReasoning(0, "Let me see."),
        TurnCall(0, 0, "weather"),
        TurnCall(0, 0, "", '{"city":'),
        TurnCall(0, 0, "", '"Ulm"}'),
    ]
    assert events[-1].reason == "stop"
    body = service.asked[0][2]
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            "reasoning_content": "Hm.",
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
    ]
    weather, time = body["tools"]
    assert weather["function"] == {
        "name": "weather",
        "description": "Tells it",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert time["function"] == {"name": "time", "parameters": {"type": "object", "properties": {}}}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False
    assert body["chat_template_kwargs"] == {"enable_thinking": True}


async def test_log_probabilities_and_the_reason_of_an_end_come_back(opened, service):
    logprobs = {"content": [{"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -1.5}]}]}
    service.script = [chunk({"content": "é"}, logprobs=logprobs), chunk(finish="content_filter")]
    async with opened() as engine:
        answer, end = await events_of(engine, top_logprobs=1)
    assert answer == TurnText(0, "é", 1, (TokenLogprob("é".encode(), -0.5, ((b"e", -1.5),)),))
    assert end == TurnFinished(0, "content_filter", Usage(0, 1))  # counted, since the service did not


async def test_raw_texts_are_continued(opened, service):
    service.script = [
        {"choices": [{"text": "x", "finish_reason": None}]},
        {"choices": [{"text": "", "finish_reason": "length"}]},
    ]
    async with opened() as engine:
        for prompt, sent in ((TextPrompt("a"), "a"), (TokenPrompt((1, 2)), [1, 2])):
            answer, end = await events_of(engine, prompt=prompt, max_tokens=1)
            assert (answer.text, end.reason) == ("x", "length")
            assert service.asked[-1][0] == "/v1/completions"
            assert (service.asked[-1][2]["prompt"], service.asked[-1][2]["max_tokens"]) == (sent, 1)
        with pytest.raises(InvalidParameterError):
            await events_of(engine, prompt=TextPrompt("a"), top_logprobs=1)


async def test_vectors_come_in_the_order_of_their_inputs(opened, service):
    service.reply = {
        "data": [{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": [1.0]}],
        "usage": {"prompt_tokens": 4},
    }
    async with opened() as engine:
        vectors = await engine.embed(EmbedRequest("big", ("a", (1, 2)), 1))
        assert [vector.hex() for vector in vectors.vectors] == ["0000803f", "0000003f"]
        assert vectors.prompt_tokens == 4
        assert service.asked[0][2] == {
            "model": "big",
            "input": ["a", [1, 2]],
            "encoding_format": "float",
            "dimensions": 1,
        }
        for reply in ({"data": []}, {"x": 1}, b"no json"):
            service.reply = reply
            with pytest.raises(ExternalServiceError):
                await engine.embed(EmbedRequest("big", ("a", "b")))


async def test_such_models_are_listed_and_found_by_id_and_by_bare_name(opened):
    async with opened() as engine:
        assert [status.info.id for status in await engine.models()] == ["cloud/big", "cloud/Org/Wide"]
        for name in ("cloud/big", "CLOUD/Big", "big", "BIG"):
            status = await engine.resolve(name)
            assert (status.info.id, status.cached, status.loaded) == ("cloud/big", False, True)
        assert (await engine.load("Org/Wide")).report.kind == "external"
        assert not await engine.unload("big")
        assert engine.residents() == []
        with pytest.raises(ModelNotFoundError):
            await engine.resolve("cloud/other")


async def test_what_needs_a_model_that_is_here_is_refused_in_a_sentence(opened):
    async with opened() as engine:
        for refused in (
            engine.tokenize("big", ASK),
            engine.detokenize("big", [1]),
            engine.download("big"),
            engine.start_download("cloud/big"),
        ):
            with pytest.raises(RequestError, match="'cloud/big' is an external model"):
                await refused
