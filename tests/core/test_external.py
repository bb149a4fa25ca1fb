"""Models elsewhere, against a service on loopback: what is asked, what comes back, and every way in which it fails."""

import logging
import socket
from contextlib import asynccontextmanager

import anyio
import pytest

from cupola import (
    ChatPrompt,
    EmbedRequest,
    ExternalBusyError,
    ExternalServiceError,
    ExternalTimeoutError,
    GenerateRequest,
    Guidance,
    InvalidParameterError,
    Message,
    ModelNotFoundError,
    RequestError,
    Sampling,
    SettingsError,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    Tool,
    ToolCall,
    ToolUse,
    TurnCall,
    TurnEnded,
    TurnFinished,
    TurnReasoning,
    TurnText,
    Usage,
)
from cupola.engine import open_engine
from cupola.external.service import ExternalService
from cupola.plugins import PluginSet
from cupola.settings import CacheSettings, ExternalSettings, Settings, load_settings
from openai_stand_in import KEY, StandIn, chunk, text

pytestmark = pytest.mark.anyio
ASK = ChatPrompt((Message("user", "Hi"),))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def service():
    with StandIn() as service:
        yield service


@pytest.fixture
def opened(service, tmp_path, monkeypatch):
    """Open an engine that offers models of the service, and nothing of its own."""
    monkeypatch.setenv("CLOUD_KEY", KEY)

    @asynccontextmanager
    async def opened(**more):
        chosen = {"base_url": service.url, "models": ("big", "Org/Wide"), "api_key_env": "CLOUD_KEY", **more}
        settings = Settings(cache=CacheSettings(dir=str(tmp_path)), external={"cloud": ExternalSettings(**chosen)})
        async with open_engine(settings, PluginSet(settings, [])) as engine:
            yield engine

    return opened


async def events_of(engine, model="cloud/big", prompt=ASK, **options):
    async with engine.generate(GenerateRequest(model, prompt, **options)) as generation:
        return [event async for event in generation]


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
            with pytest.raises(RequestError, match="'cloud/big' runs elsewhere"):
                await refused


@pytest.mark.parametrize(
    ("status", "message", "kind", "sentence"),
    [
        (401, f"Incorrect API key provided: {KEY}", ExternalServiceError, "refuses our key .status 401."),
        (403, "no", ExternalServiceError, "external.cloud.api_key_env"),
        (400, f"no {KEY} here", RequestError, "no .key. here"),
        (422, "bad", RequestError, "'cloud' refuses this: bad"),
        (404, "model gone", ExternalServiceError, "status 404: model gone"),
        (429, "slow down", ExternalBusyError, "no more requests for now. slow down"),
        (500, "boom " * 1000, ExternalServiceError, "status 500: boom"),
        (302, "", ExternalServiceError, "status 302"),
    ],
)
async def test_refusals_are_told_in_our_words_and_never_with_the_key(opened, service, status, message, kind, sentence):
    service.refuse(status, message)
    async with opened() as engine:
        with pytest.raises(kind, match=sentence) as caught:
            await events_of(engine)
    assert KEY not in str(caught.value)
    assert len(str(caught.value)) < 1000


async def test_the_field_and_the_wait_that_a_service_names_are_handed_on(opened, service):
    async with opened() as engine:
        service.refuse(400, "too hot", "temperature")
        with pytest.raises(InvalidParameterError) as caught:
            await events_of(engine)
        assert caught.value.param == "temperature"
        for said, wait_s in (("17", 17), ("soon", 1), ("-3", 1), ("99999999999", 3600)):
            service.refuse(429, "wait", retry_after=said)
            with pytest.raises(ExternalBusyError) as busy:
                await events_of(engine)
            assert busy.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ([*text("Hel")[:2], "die"], "broke off"),
        ([*text("Hel")[:2]], "broke off before its end"),
        ([*text("Hel")[:2], "done"], "broke off before its end"),
        ([*text("Hel")[:2], {"error": {"message": f"out of {KEY} memory"}}], "out of .key. memory"),
        ([*text("Hel")[:2], {"error": "plain"}], "plain"),
        ([*text("Hel")[:2], b"data: {no json\n\n"], "no chunk"),
        ([*text("Hel")[:2], b'data: {"choices": 4}\n\n'], "no chunk"),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error_after_the_text_that_came(opened, service, script, sentence):
    service.script = script
    async with opened() as engine:
        texts = []

        async def read():
            async with engine.generate(GenerateRequest("big", ASK)) as generation:
                async for event in generation:
                    texts.append(event.text)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(ExternalServiceError, match=sentence) as caught:
            await read()
    assert texts == ["Hel"]
    assert KEY not in str(caught.value)


async def test_comments_blank_lines_and_other_fields_are_skipped(opened, service):
    service.script = [b": keep-alive\n\n", b"event: x\nid: 3\n\n", *text("a"), b"\n\n", "done"]
    async with opened() as engine:
        assert [event.text for event in (await events_of(engine))[:-1]] == ["a"]


async def test_a_service_that_says_nothing_is_given_up_before_and_within_an_answer(opened, service):
    async with opened(timeout_s=0.2) as engine:
        for script in ([service.released], [*text("a")[:2], service.released]):
            service.script = script
            with pytest.raises(ExternalTimeoutError, match="said nothing for 0.2 s"):
                await events_of(engine)


async def test_a_service_that_is_down_is_told_with_its_name(opened):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with opened(base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}/v1") as engine:
            with pytest.raises(ExternalServiceError, match="'cloud' failed: no connection"):
                await events_of(engine)


async def test_a_reply_that_is_no_stream_is_refused(opened, service):
    service.reply = {"choices": []}
    async with opened() as engine:
        with pytest.raises(ExternalServiceError, match="does not stream"):
            await events_of(engine)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # on trio, httpx leaves its generators behind
async def test_leaving_early_ends_the_answer_at_the_service_and_observers_are_told(opened, service):
    events = []
    service.script = [*text("a")[:2], *[b": " + b"x" * 60_000 + b"\n\n"] * 500]
    async with opened() as engine:
        engine._plugins.observe = events.append
        async with engine.generate(GenerateRequest("big", ASK)) as generation:
            async for _ in generation:
                break
        with anyio.fail_after(10):
            await anyio.to_thread.run_sync(service.left.wait, 10)
        service.script = text("a", "b")
        await events_of(engine)
    early, whole = [event for event in events if isinstance(event, TurnEnded)]
    assert (early.model, early.provider, early.reason) == ("cloud/big", "External", "cancelled")
    assert (whole.reason, whole.usage) == ("stop", Usage(7, 2, 2))


async def test_the_key_is_in_no_log_and_no_repr(opened, service, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    async with opened() as engine:
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        await events_of(engine)
        service.refuse(401, KEY)
        with pytest.raises(ExternalServiceError) as caught:
            await events_of(engine)
        assert KEY not in repr(engine._settings)
    assert service.asked[0][1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text
    assert KEY not in repr(caught.value)


async def test_a_key_may_lie_in_a_file_and_is_read_anew_for_each_request(opened, service, tmp_path):
    file = tmp_path / "key"
    async with opened(api_key_env="", api_key_file=str(file)) as engine:
        for key in ("first", "second"):
            file.write_text(f"{key}\n")
            await events_of(engine)
            assert service.asked[-1][1]["authorization"] == f"Bearer {key}"
        file.unlink()
        with pytest.raises(ExternalServiceError, match="key file"):
            await events_of(engine)


async def test_a_key_that_is_missing_is_told_by_the_name_of_its_variable(opened, monkeypatch):
    monkeypatch.delenv("CLOUD_KEY")
    async with opened() as engine:
        with pytest.raises(ExternalServiceError, match="variable CLOUD_KEY, which holds its key, is not set"):
            await events_of(engine)


def test_a_key_does_not_travel_in_the_clear():
    with pytest.raises(SettingsError, match="external.x.base_url"):
        ExternalService("x", ExternalSettings(base_url="http://api.example/v1", api_key_env="K"), {})
    for url in ("http://localhost:1/v1", "http://127.0.0.2/v1", "http://[::1]:1/v1", "https://api.example/v1"):
        ExternalService("x", ExternalSettings(base_url=url, api_key_env="K"), {})
    ExternalService("x", ExternalSettings(base_url="http://api.example/v1"), {})


async def test_a_registered_model_answers_and_gets_no_key_but_at_the_address_of_the_settings(opened, service):
    async with opened() as engine:
        status = await engine.register("Other", "new", service.url)
        assert status.info.id == "other/new"
        await events_of(engine, "new")
        assert "authorization" not in {name.lower() for name in service.asked[-1][1]}
        await engine.register("cloud", "more", f"{service.url}/")
        await events_of(engine, "cloud/more")
        assert service.asked[-1][1]["authorization"] == f"Bearer {KEY}"
        with pytest.raises(RequestError, match="at another address"):
            await engine.register("cloud", "big", "http://127.0.0.1:9/v1")
        for name, model, url in (
            *[("a b", "m", service.url), ("", "m", service.url), ("x", " ", service.url), ("x/y", "m", service.url)],
            *[("x", "m", "ftp://x/v1"), ("x", "m", "http://u:p@x/v1"), ("x", "m", "http://x/v1?k=1"), ("x", "m", "")],
        ):
            with pytest.raises(RequestError):
                await engine.register(name, model, url)


async def test_registering_has_an_end(opened, service):
    async with opened() as engine:
        for number in range(254):
            await engine.register("many", f"m{number}", service.url)
        with pytest.raises(RequestError, match="256"):
            await engine.register("many", "one more", service.url)


def test_services_are_set_by_file_variable_and_flag(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[external.cloud]\nbase_url = "https://api.example/v1"\nmodels = ["a"]\n')
    settings = load_settings(path=file, environ={"CUPOLA_EXTERNAL_CLOUD_MODELS": '["a", "b"]'})
    assert settings.external["cloud"].models == ("a", "b")
    assert settings.for_workers().external == {}
    with pytest.raises(SettingsError, match="api_key"):
        load_settings(path=file, overrides=["external.cloud.api_key=sk-1"])
