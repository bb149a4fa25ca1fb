"""The web service of the SDKs 1.x and 2.x: status, models, shutdown, and the catalog of this machine's own models."""

import json
import os

import anyio
import httpx
import pytest
from openai import AsyncOpenAI

from cupola.errors import ModelBusyError
from echo_specs import chat

pytestmark = pytest.mark.anyio

ASK = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def cached(running):
    await running.engine.download("echo")
    return running


async def test_the_status_has_the_keys_of_both_releases(running, http):
    where = str(running.cache)
    status = {"endpoints": [running.url], "modelCachePath": where, "modelDirPath": where, "pid": os.getpid()}
    assert (await http.get("/status")).content == json.dumps(status, separators=(",", ":")).encode()


@pytest.mark.parametrize("name", ["echo", "echo-generic-cpu:2", "echo-generic-cpu%3A2"])
async def test_models_are_loaded_and_unloaded_by_alias_and_by_id(cached, http, name):
    assert (await http.get("/models/loaded")).content == b"[]"
    for status in (b'{"status":"loaded"}', b'{"status":"already_loaded"}'):
        assert (await http.get(f"/models/load/{name}")).content == status
    assert (await http.get("/models/loaded")).content == b'["echo-generic-cpu:2"]'
    for status in (b'{"status":"unloaded"}', b'{"status":"not_loaded"}'):
        assert (await http.get(f"/models/unload/{name}")).content == status


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/models/load/x", 404, "Model not found: No model matching 'x'"),
        ("/models/unload/x", 404, "Model not found: No model matching 'x'"),
        ("/models/load/slow", 400, "Model not cached: Model must be downloaded before loading"),
        ("/catalogs/local/models/load/echo", 404, "Model not found: No model matching 'echo'"),
    ],
)
async def test_errors_have_openais_shape_and_the_known_words(http, path, status, message):
    reply = await http.get(path)
    error = reply.json()["error"]
    assert (reply.status_code, error["message"], error["type"]) == (status, message, "invalid_request_error")
    assert error.keys() == {"message", "type", "param", "code"}


async def test_a_model_that_answers_is_not_unloaded(cached, http):
    async with cached.engine.generate(chat("forever", model="echo")):
        reply = await http.get("/models/unload/echo")
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "model_busy")


async def test_a_load_that_fails_says_so(running, http):
    await running.engine.download("fragile")
    reply = await http.get("/models/load/fragile")
    assert reply.status_code == 500
    assert reply.json()["error"]["message"] == "Load failed: it was told to fail"


@pytest.mark.parametrize("path", ["/models/load/echo", "/models/unload/echo"])
async def test_what_changes_something_answers_no_head(cached, http, path):
    assert (await http.head(path)).status_code == 405
    assert cached.engine.residents() == []


async def test_shutting_down_lets_answers_end_and_stops_the_service(cached, http):
    body = {"model": "echo", "messages": [{"role": "user", "content": "a bit slow"}], "stream": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        async with httpx.AsyncClient(base_url=cached.url, timeout=20) as other:
            reply = await other.post("/shutdown")
            assert (reply.status_code, reply.content) == (200, b'{"status":"shutting_down"}')
            refused = await other.get("/openai/status")
            assert refused.json()["error"]["code"] == "server_stopping"
        assert [line async for line in lines if line][-1] == "data: [DONE]"
    with anyio.fail_after(20):
        await cached.ended.wait()


async def test_only_a_post_shuts_down(cached, http):
    for method in ("GET", "HEAD", "PUT"):
        assert (await http.request(method, "/shutdown")).status_code == 405
    assert not cached.service.stopping.is_set()


async def test_the_local_catalog_knows_the_models_of_this_machine_and_no_others(cached, http):
    await cached.engine.download("mine")
    for status in ("loaded", "already_loaded"):
        assert (await http.get("/catalogs/local/models/load/mine")).json() == {"status": status}
    await http.get("/models/load/echo")
    assert (await http.get("/catalogs/local/models/loaded")).json() == ["mine-generic-cpu:1"]
    assert len((await http.get("/models/loaded")).json()) == 2
    assert [model["id"] for model in (await http.get("/catalogs/local/v1/models")).json()["data"]] == [
        "mine-generic-cpu:1"
    ]
    assert (await http.get("/catalogs/local/v1/models/echo")).status_code == 404
    reply = await http.post("/catalogs/local/v1/chat/completions", json={"model": "echo", **ASK})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert (await http.get("/catalogs/local/models/unload/mine")).json() == {"status": "unloaded"}


async def test_openais_client_works_on_the_local_catalog(cached):
    await cached.engine.download("mine")
    base = f"{cached.url}/catalogs/local/v1"
    async with AsyncOpenAI(base_url=base, api_key="unused", max_retries=0, timeout=20) as client:
        answer = await client.chat.completions.create(model="mine", **ASK)
        assert answer.choices[0].message.content == "hello"
        stream = await client.chat.completions.create(model="mine-generic-cpu:1", stream=True, **ASK)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "hello"
        response = await client.responses.create(model="mine", input="hello", store=False)
        assert response.output_text == "hello"
    with pytest.raises(ModelBusyError):
        async with cached.engine.generate(chat("forever", model="mine")):
            await cached.engine.unload("mine", wait_s=0)
