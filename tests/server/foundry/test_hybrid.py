"""Models elsewhere among those of this service: the same requests, the same replies, by the model's name."""

import json

import httpx
import pytest
from openai import AsyncOpenAI

from cupola.settings import ExternalSettings, ModelSettings
from openai_stand_in import KEY, StandIn, chunk, text
from waiting import until

pytestmark = pytest.mark.anyio

ASK = {"messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLS = [
    chunk({"reasoning_content": "Let me see."}),
    chunk({"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": '{"city":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]}),
    chunk(finish="tool_calls"),
    "done",
]


@pytest.fixture
def cloud():
    with StandIn() as cloud:
        yield cloud


@pytest.fixture
def hybrid(started, cloud, monkeypatch):
    """Start a service that offers "cloud/big" and "cloud/echo" beside its own."""
    monkeypatch.setenv("CLOUD_KEY", KEY)

    def hybrid(*, fallback="", **more):
        chosen = {"base_url": cloud.url, "models": ("big", "echo"), "api_key_env": "CLOUD_KEY", **more}
        return started(external={"cloud": ExternalSettings(**chosen)}, models=ModelSettings(fallback=fallback))

    return hybrid


@pytest.fixture
async def service(hybrid):
    async with hybrid() as service:
        yield service


@pytest.fixture
async def http(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as http:
        yield http


@pytest.fixture
async def client(service):
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0, timeout=20) as client:
        yield client


async def test_such_models_are_in_every_listing_under_their_service(http):
    ids = {"cloud/big", "cloud/echo"}
    models = {model["id"]: model for model in (await http.get("/v1/models")).json()["data"]}
    assert models.keys() == ids
    assert models["cloud/big"]["owned_by"] == "cloud"
    assert (await http.get("/v1/models/cloud/big")).json()["id"] == "cloud/big"
    assert set((await http.get("/openai/models")).json()) == ids
    (listed,) = [model for model in (await http.get("/foundry/list")).json() if model["name"] == "cloud/big"]
    assert (listed["providerType"], listed["runtime"]["executionProvider"]) == ("external", "External")
    assert (await http.get("/openai/loadedmodels")).json() == []
    assert (await http.get("/models/load/cloud/big")).json() == {"status": "loaded"}
    assert (await http.get("/openai/load/cloud/big?ttl=600")).status_code == 200
    assert (await http.get("/openai/unload/cloud/big")).status_code == 200


async def test_openais_client_gets_answers_whole_and_streamed(client, cloud):
    answer = await client.chat.completions.create(model="cloud/big", n=2, seed=4, **ASK)
    assert [choice.message.content for choice in answer.choices] == ["Hello from elsewhere"] * 2
    assert (answer.model, answer.choices[0].finish_reason, answer.usage.total_tokens) == ("cloud/big", "stop", 13)
    assert [asked[2]["seed"] for asked in cloud.asked] == [4, 5]
    stream = await client.chat.completions.create(
        model="big", stream=True, stream_options={"include_usage": True}, **ASK
    )
    chunks = [each async for each in stream]
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "Hello from elsewhere"
    assert chunks[-1].usage.prompt_tokens == 7
    continued = await client.completions.create(model="cloud/big", prompt="Hi", max_tokens=4)
    assert continued.model == "cloud/big"


async def test_calls_and_reasoning_come_through_in_chats_and_responses(client, cloud):
    cloud.script = CALLS
    answer = await client.chat.completions.create(model="big", tools=[TOOL], tool_choice="required", **ASK)
    message = answer.choices[0].message
    assert message.tool_calls[0].function.arguments == '{"city":"Ulm"}'
    assert message.tool_calls[0].id.startswith("call_")
    assert message.reasoning_content == "Let me see."
    assert answer.choices[0].finish_reason == "tool_calls"
    assert cloud.asked[0][2]["tool_choice"] == "required"
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    response = await client.responses.create(model="big", input="Hi", tools=[tool], store=False)
    assert [item.type for item in response.output] == ["reasoning", "function_call"]
    assert response.output[1].arguments == '{"city":"Ulm"}'
    cloud.script = [*text("cut", finish="content_filter"), "done"]
    response = await client.responses.create(model="big", input="Hi", store=False)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")


async def test_vectors_come_through(client, cloud):
    cloud.reply = {"data": [{"index": 0, "embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 2}}
    reply = await client.embeddings.create(model="cloud/big", input="Hi", encoding_format="float")
    assert (reply.data[0].embedding, reply.usage.prompt_tokens) == ([0.5, 1.0], 2)


async def test_a_bare_name_means_the_model_of_this_machine_if_there_is_one(service, client, cloud):
    await service.engine.download("echo")
    assert (await client.chat.completions.create(model="echo", **ASK)).choices[0].message.content == "Hi"
    assert cloud.asked == []
    answer = await client.chat.completions.create(model="cloud/echo", **ASK)
    assert answer.choices[0].message.content == "Hello from elsewhere"


async def test_a_model_is_registered_over_http_and_answers(http, client, cloud):
    for body in (
        {"TypeName": "deepseek", "ModelName": "deepseek-chat", "BaseUri": cloud.url},
        {"typeName": "deepseek", "modelname": "deepseek-chat", "baseUri": cloud.url},
    ):
        reply = await http.post("/openai/register", json=body)
        assert (reply.status_code, reply.content) == (200, b"")
    assert "deepseek/deepseek-chat" in (await http.get("/openai/models")).json()
    answer = await client.chat.completions.create(model="deepseek-chat", **ASK)
    assert answer.choices[0].message.content == "Hello from elsewhere"
    assert "authorization" not in {name.lower() for name in cloud.asked[0][1]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"TypeName": "x", "ModelName": "m"}, "baseuri"),
        ({"TypeName": "x", "ModelName": "", "BaseUri": "http://127.0.0.1/v1"}, "modelname"),
        ({"TypeName": "x", "ModelName": "m", "BaseUri": "file:///etc/passwd"}, None),
        ({"TypeName": "cloud", "ModelName": "m", "BaseUri": "http://127.0.0.1:9/v1"}, None),
        ({"TypeName": "x", "ModelName": "m", "BaseUri": "http://127.0.0.1/v1", "ApiKey": "sk"}, "apikey"),
    ],
    ids=str,
)
async def test_a_registration_that_is_none_is_a_problem(http, body, param):
    reply = await http.post("/openai/register", json=body)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json().get("param") == param
    assert len((await http.get("/openai/models")).json()) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_keep_their_meaning_and_never_the_key(http, cloud, stream):
    async def ask():
        return await http.post("/v1/chat/completions", json={"model": "cloud/big", "stream": stream, **ASK})

    for status, becomes, code in (
        (401, 502, "external_service_failed"),
        (429, 429, "external_service_busy"),
        (503, 502, "external_service_failed"),
        (400, 400, None),
    ):
        cloud.refuse(status, f"because of {KEY}", "temperature" if status == 400 else None, retry_after="9")
        reply = await ask()
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (becomes, code)
        assert KEY not in reply.text
        assert error["param"] == ("temperature" if status == 400 else "model")
        assert reply.headers.get("retry-after") == ("9" if status == 429 else None)


async def test_a_service_that_dies_or_falls_silent_within_an_answer_is_told_in_the_stream(hybrid, cloud):
    async with hybrid(timeout_s=0.3) as service, httpx.AsyncClient(base_url=service.url, timeout=20) as http:
        for end, code in (("die", "external_service_failed"), (cloud.released, "external_service_timeout")):
            cloud.script = [*text("Hel")[:2], end]
            reply = await http.post("/v1/chat/completions", json={"model": "big", "stream": True, **ASK})
            *_, said, error = [line for line in reply.text.split("\n\n") if line]
            assert '"content":"Hel"' in said
            assert json.loads(error.removeprefix("data: "))["error"]["code"] == code
            assert "[DONE]" not in reply.text
            whole = await http.post("/v1/chat/completions", json={"model": "big", **ASK})
            assert whole.status_code == (502 if end == "die" else 504)


async def test_a_client_that_leaves_ends_the_answer_at_the_service(http, cloud):
    cloud.script = [*text("a")[:2], *[b": " + b"x" * 60_000 + b"\n\n"] * 2000]
    async with http.stream("POST", "/v1/chat/completions", json={"model": "big", "stream": True, **ASK}) as reply:
        lines = reply.aiter_lines()
        await anext(lines)
    await until(cloud.left.is_set, within_s=15)


async def test_counting_tokens_of_a_model_elsewhere_is_refused(http):
    for path in ("/v1/chat/completions/tokenizer/encode/count", "/tokenize"):
        reply = await http.post(path, json={"model": "big", **ASK})
        assert reply.status_code == 400
        assert "is an external model" in reply.json()["error"]["message"]
    reply = await http.post("/openai/download", json={"model": {"Name": "cloud/big"}})
    assert "is an external model" in reply.text


@pytest.mark.parametrize("stream", [False, True])
async def test_the_fallback_answers_for_what_this_machine_cannot_run(hybrid, cloud, caplog, stream):
    async with hybrid(fallback="cloud/big") as service, httpx.AsyncClient(base_url=service.url, timeout=20) as http:
        await service.engine.download("fragile")
        for model in ("elsewhere", "fragile"):  # made for another device; cannot be loaded
            reply = await http.post("/v1/chat/completions", json={"model": model, "stream": stream, **ASK})
            assert reply.status_code == 200
            assert '"model":"cloud/big"' in reply.text
            assert "Its requests go to cloud/big instead." in caplog.text
            caplog.clear()
        assert (await http.get("/openai/load/elsewhere")).status_code == 501
        for model, status in (("nothing", 404), ("slow", 404)):  # unknown; to be downloaded
            reply = await http.post("/v1/chat/completions", json={"model": model, **ASK})
            assert reply.status_code == status
        reply = await http.post("/v1/completions", json={"model": "elsewhere", "prompt": "Hi"})
        assert reply.json()["model"] == "cloud/big"


async def test_a_model_of_this_machine_may_be_the_fallback_and_one_that_fails_too_is_told(hybrid):
    async with hybrid(fallback="echo") as service, httpx.AsyncClient(base_url=service.url, timeout=20) as http:
        reply = await http.post("/v1/chat/completions", json={"model": "elsewhere", **ASK})
        assert reply.json()["error"]["code"] == "model_not_downloaded"
        await service.engine.download("echo")
        reply = await http.post("/v1/chat/completions", json={"model": "elsewhere", **ASK})
        assert (reply.json()["model"], reply.json()["choices"][0]["message"]["content"]) == ("echo-generic-cpu:2", "Hi")
    async with hybrid(fallback="elsewhere") as service, httpx.AsyncClient(base_url=service.url, timeout=20) as http:
        reply = await http.post("/v1/chat/completions", json={"model": "elsewhere", **ASK})
        assert reply.json()["error"]["code"] == "no_provider"


async def test_without_a_fallback_nothing_leaves_this_machine(http, cloud):
    reply = await http.post("/v1/chat/completions", json={"model": "elsewhere", **ASK})
    assert (reply.status_code, reply.json()["error"]["code"]) == (501, "no_provider")
    assert cloud.asked == []


async def test_one_cupola_serves_the_models_of_another(started, tmp_path):
    async with started() as far:
        await far.engine.download("echo")
        settings = ExternalSettings(base_url=f"{far.url}/v1", models=("echo",))
        async with started(external={"far": settings}) as near:
            async with AsyncOpenAI(base_url=f"{near.url}/v1", api_key="x", max_retries=0, timeout=20) as client:
                answer = await client.chat.completions.create(model="far/echo", top_p=0.5, max_tokens=2, **ASK)
                assert answer.choices[0].message.content == "Hi"
                assert answer.usage.prompt_tokens == 2
                stream = await client.chat.completions.create(model="far/echo", stream=True, **ASK)
                assert "".join([each.choices[0].delta.content or "" async for each in stream]) == "Hi"
