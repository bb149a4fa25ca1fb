"""The service of Foundry Local 0.3 to 0.8: the bytes of its replies, and what its parameters do."""

import json

import httpx
import pytest

from cupola.errors import ModelBusyError
from cupola.settings import ModelSettings
from echo_specs import chat

pytestmark = pytest.mark.anyio

CHANGING = ("/openai/load/echo", "/openai/unload/echo", "/openai/unloadall", "/openai/setgpudevice/0")


@pytest.fixture
async def cached(running):
    await running.engine.download("echo")
    return running


async def test_the_status_has_camel_case_keys_and_the_real_address(running, http):
    reply = await http.get("/openai/status")
    assert reply.headers["content-type"] == "application/json"
    assert (
        reply.content
        == json.dumps(
            {
                "endpoints": [running.url],
                "modelDirPath": str(running.cache),
                "pipeName": "",
                "isAutoRegistrationResolved": True,
                "autoRegistrationStatus": "Valid EPs: EchoExecutionProvider",
            },
            separators=(",", ":"),
        ).encode()
    )


async def test_on_a_unix_domain_socket_the_status_names_it(started, tmp_path):
    async with started({"uds": str(tmp_path / "socket")}):
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "socket"))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            status = (await http.get("/openai/status")).json()
    assert (status["endpoints"], status["pipeName"]) == ([], str(tmp_path / "socket"))


async def test_the_catalog_is_a_bare_array_of_what_can_run_here_with_every_key_that_sdks_want(http):
    reply = await http.get("/foundry/list")
    names = [model["name"] for model in reply.json()]
    assert "elsewhere-npu:1" not in names
    assert names.index("echo-generic-cpu:2") < names.index("echo-generic-cpu:1")
    (phi,) = [model for model in reply.json() if model["alias"] == "phi-4"]
    expected = (
        '{"name":"Phi-4-generic-cpu:1","displayName":"Phi-4-generic-cpu","providerType":"AzureFoundry",'
        '"uri":"azureml://registries/azureml/models/Phi-4-generic-cpu/versions/1","version":"1","modelType":"ONNX",'
        '"promptTemplate":{"system":"<|system|>{Content}","user":"<|user|>{Content}",'
        '"assistant":"<|assistant|>{Content}","prompt":"{Content}"},'
        '"publisher":"Microsoft","task":"chat-completion","testModel":false,'
        '"runtime":{"deviceType":"CPU","executionProvider":"EchoExecutionProvider"},'
        '"fileSizeMb":3,"modelSettings":{"parameters":[{"Name":"temperature","Value":"0.7"}]},"alias":"phi-4",'
        '"supportsToolCalling":false,"license":"MIT",'
        '"licenseDescription":"This model is provided under the License Terms.",'
        '"parentModelUri":"azureml://registries/azureml/models/Phi-4/versions/7","maxOutputTokens":2048,'
        '"minFLVersion":"0.3.0"}'
    )
    assert expected in reply.text
    assert json.loads(expected) == phi
    (plain,) = [model for model in reply.json() if model["alias"] == "slow"]
    assert plain.keys() == phi.keys()
    assert (plain["promptTemplate"], plain["maxOutputTokens"], plain["minFLVersion"]) == (None, None, None)


async def test_what_is_cached_and_what_is_loaded_are_arrays_of_ids(cached, http):
    assert (await http.get("/openai/models")).content == b'["echo-generic-cpu:2"]'
    assert (await http.get("/openai/loadedmodels")).content == b"[]"
    await cached.engine.load("echo")
    assert (await http.get("/openai/loadedmodels")).content == b'["echo-generic-cpu:2"]'


@pytest.mark.parametrize(
    "name", ["echo-generic-cpu:2", "echo-generic-cpu%3A2", "echo-generic-cpu", "echo", "ECHO-Generic-CPU:2"]
)
async def test_loading_and_unloading_take_any_name_and_say_nothing(cached, http, name):
    loaded = await http.get(f"/openai/load/{name}?ttl=600&ep=")
    assert (loaded.status_code, loaded.content) == (200, b"")
    assert [resident.info.id for resident in cached.engine.residents()] == ["echo-generic-cpu:2"]
    for force in ("false", "true"):  # the second time it is not loaded, which is no error
        unloaded = await http.get(f"/openai/unload/{name}?force={force}")
        assert (unloaded.status_code, unloaded.content) == (200, b"")
    assert cached.engine.residents() == []


@pytest.mark.parametrize(
    ("query", "ttl_s"),
    [
        ("", 77),
        ("?ttl=50", 50),
        ("?timeout=60", 60),
        ("?ttl=50&timeout=50", 50),
        ("?ttl=0", 77),
        ("?unload=false", None),
        ("?unload=true", 77),
        ("?unload=False&ttl=50", 50),
        ("?unload=false&ttl=0", None),
        ("?ttl=-1", 77),
    ],
)
async def test_the_time_to_live_follows_ttl_then_unload_then_the_setting(started, query, ttl_s):
    async with started(models=ModelSettings(ttl_s=77)) as running:
        await running.engine.download("echo")
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
            assert (await http.get(f"/openai/load/echo{query}")).status_code == 200
        assert running.engine.residents()[0].ttl_s == ttl_s


async def test_a_short_time_to_live_unloads(cached, http):
    await http.get("/openai/load/echo?ttl=0.05")
    while (await http.get("/openai/loadedmodels")).json():
        pass


async def test_unload_true_ends_the_stay_of_a_model_that_was_kept_for_good(cached, http):
    await http.get("/openai/load/echo?unload=false")
    await http.get("/openai/load/echo")
    assert cached.engine.residents()[0].ttl_s is None
    await http.get("/openai/load/echo?unload=true")
    assert cached.engine.residents()[0].ttl_s == 600


async def test_the_execution_provider_is_honoured_or_refused_by_name(cached, http):
    assert (await http.get("/openai/load/echo?ep=echo")).status_code == 200
    reply = await http.get("/openai/load/echo?ep=cuda")
    assert reply.status_code == 400
    assert reply.json()["param"] == "ep"
    assert "Available: echo" in reply.json()["detail"]


async def test_loading_what_is_not_downloaded_says_what_sdks_look_for(http):
    reply = await http.get("/openai/load/slow-generic-cpu:1?ttl=600")
    assert reply.status_code == 404
    assert "No OpenAIService provider found for modelName" in reply.text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/openai/load/nothing:1", 404, "model_not_found"),
        ("/openai/load/elsewhere", 501, "no_provider"),
        ("/openai/unload/nothing", 404, "model_not_found"),
        ("/openai/load/echo?ttl=soon", 400, "invalid_value"),
        ("/openai/load/echo?ttl=1&timeout=2", 400, "invalid_value"),
        ("/openai/load/echo?unload=perhaps", 400, "invalid_value"),
        ("/openai/load/echo?device=GPU", 400, "unknown_parameter"),
        ("/openai/unload/echo?force=maybe", 400, "invalid_value"),
        ("/openai/unload/echo?ttl=3", 400, "unknown_parameter"),
        ("/openai/setgpudevice/-1", 400, "invalid_value"),
        ("/openai/setgpudevice/first", 400, "invalid_value"),
        ("/openai/setgpudevice/0", 501, "no_provider"),
    ],
)
async def test_errors_are_problem_details(http, path, status, code):
    reply = await http.get(path)
    problem = reply.json()
    assert reply.status_code == problem["status"] == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert problem["code"] == code
    assert list(problem)[:4] == ["type", "title", "status", "detail"]


async def test_choosing_a_gpu_where_there_is_none_says_what_there_is(http):
    problem = (await http.get("/openai/setgpudevice/0")).json()
    assert "No execution provider on this machine has a GPU. Available: " in problem["detail"]


async def test_a_model_that_answers_is_unloaded_only_by_force(cached, http):
    async with cached.engine.generate(chat("forever", model="echo")):
        for path in ("/openai/unload/echo", "/openai/unloadall"):
            reply = await http.get(path)
            assert (reply.status_code, reply.json()["code"]) == (409, "model_busy")
        assert (await http.get("/openai/loadedmodels")).json()
        assert (await http.get("/openai/unloadall?force=true")).status_code == 200
    assert (await http.get("/openai/loadedmodels")).json() == []


async def test_unloading_all_leaves_those_that_answer_and_names_them(cached, http):
    await cached.engine.download("phi-4")
    await cached.engine.load("phi-4")
    async with cached.engine.generate(chat("forever", model="echo")):
        assert "echo-generic-cpu:2" in (await http.get("/openai/unloadall")).json()["detail"]
        assert (await http.get("/openai/loadedmodels")).json() == ["echo-generic-cpu:2"]
        with pytest.raises(ModelBusyError):
            await cached.engine.unload("echo", wait_s=0)


async def test_the_gpu_is_a_number(http):
    assert (await http.get("/openai/getgpudevice")).content == b"0"


async def test_a_gpu_that_no_provider_has_is_refused_and_the_chosen_one_stays(started):
    async with started(plugins=["twin_plugin"]) as running, httpx.AsyncClient(base_url=running.url) as http:
        assert (await http.get("/openai/setgpudevice/3")).status_code == 200
        reply = await http.get("/openai/setgpudevice/1")
        problem = reply.json()
        assert (reply.status_code, problem["code"], problem["param"]) == (400, "invalid_value", "deviceId")
        assert problem["detail"] == "Unknown GPU 1. Available: 0, 3."
        assert (await http.get("/openai/getgpudevice")).content == b"3"
        assert {device.index for device in running.engine.devices() if device.type == "GPU"} == {3}
        assert (await http.get("/openai/setgpudevice/0")).status_code == 200


@pytest.mark.parametrize("path", CHANGING)
async def test_what_changes_something_answers_get_alone(cached, http, path):
    await cached.engine.load("echo")
    for method in ("HEAD", "POST", "OPTIONS"):
        reply = await http.request(method, path)
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
    assert len(cached.engine.residents()) == 1


async def test_the_tokens_of_a_chat_are_counted_with_its_template(cached, http):
    body = {"model": "echo", "messages": [{"role": "user", "content": "four"}, {"role": "user", "content": "more"}]}
    reply = await http.post("/v1/chat/completions/tokenizer/encode/count", json=body)
    assert reply.content == b'{"tokenCount":8}'
    reply = await http.post("/v1/chat/completions/tokenizer/encode/count", json={"model": "echo"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "messages"


async def test_the_openai_front_end_keeps_its_paths_beside_it(cached, http):
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    reply = await http.post("/v1/chat/completions", json=body)
    assert reply.json()["choices"][0]["message"]["content"] == "hello"
    assert (await http.get("/v1/models")).json()["data"][0]["id"] == "echo-generic-cpu:2"


async def test_every_operation_is_in_the_document(http):
    document = (await http.get("/openapi.json")).json()
    paths = document["paths"]
    for path in ("/openai/load/{name}", "/openai/download", "/foundry/list", "/catalogs/local/v1/chat/completions"):
        assert path in paths
    failures = paths["/openai/load/{name}"]["get"]["responses"]["404"]["content"]
    assert failures["application/problem+json"]["schema"]["$ref"].endswith("ProblemDetails")
    assert {parameter["name"] for parameter in paths["/openai/load/{name}"]["get"]["parameters"]} == {
        *("name", "unload", "ttl", "timeout", "ep")
    }
