"""The clients, with a real background service that they start."""

import inspect
import os
import signal

import httpx
import pytest

from cupola.client import AsyncClient, Client
from cupola.errors import ModelNotFoundError, ServiceError, ServiceReplyError
from machine import Machine

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    yield machine
    machine.end()


def test_a_model_is_downloaded_loaded_used_and_unloaded(machine):
    with Client() as client:
        assert not client.is_service_running()
        assert [model.alias for model in client.list_catalog_models()] == ["echo", "unreachable"]
        assert client.is_service_running()
        assert client.get_cache_location() == machine.cache
        assert client.list_cached_models() == []
        assert client.is_model_upgradeable("echo")
        told = []
        info = client.download_model("echo", progress=told.append)
        assert info.id == "echo-generic-cpu:1"
        assert (told[0].state, told[-1].state, told[-1].done) == ("running", "done", 2_000_000)
        assert client.list_cached_models() == [info]
        assert not client.is_model_upgradeable("echo")
        assert client.upgrade_model("echo") == info
        assert client.load_model("echo", ttl=60).ttl_s == 60
        assert [model.id for model in client.list_loaded_models()] == [info.id]
        with client.openai_client() as openai:
            reply = openai.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}])
        assert reply.choices[0].message.content == "hello"
        assert client.unload_model("echo", device="CPU")
        assert not client.unload_model("echo")
        assert client.list_loaded_models() == []
        assert client.stop_service()
        assert not client.is_service_running()


async def test_the_asynchronous_client_does_the_same(machine):
    async with AsyncClient() as client:
        assert [model.alias for model in await client.list_catalog_models()] == ["echo", "unreachable"]
        told = []
        info = await client.download_model("echo", progress=told.append)
        assert told[-1].state == "done"
        assert await client.list_cached_models() == [info]
        assert (await client.load_model("echo", "CPU", ttl=60)).ttl_s == 60
        async with await client.openai_client() as openai:
            reply = await openai.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}])
        assert reply.choices[0].message.content == "hello"
        assert [model.id for model in await client.list_loaded_models()] == [info.id]
        assert await client.unload_model("echo", force=True)
        assert not await client.is_model_upgradeable("echo")
        assert await client.upgrade_model("echo") == info
        assert await client.get_cache_location() == machine.cache
        assert await client.stop_service()


async def test_a_service_that_was_killed_is_started_again(machine):
    with Client() as client:
        before = client.start_service()
        client.list_catalog_models()
        os.kill(before.pid, signal.SIGKILL)
        machine.wait_for_end()
        assert client.list_cached_models() == []
        assert client.start_service().pid != before.pid
    async with AsyncClient() as client:
        before = await client.start_service()
        await client.list_catalog_models()
        os.kill(before.pid, signal.SIGKILL)
        machine.wait_for_end()
        assert await client.list_cached_models() == []


def test_a_client_with_start_false_starts_no_service(machine):
    with Client(start=False) as client:
        assert client.list_loaded_models() == []
        with pytest.raises(ServiceError, match="is not running. Start it with"):
            client.list_catalog_models()
    assert machine.agent() is None


def test_errors_of_the_service_are_raised_with_its_own_message(machine):
    with Client() as client:
        with pytest.raises(ServiceReplyError, match="has not been downloaded") as raised:
            client.load_model("echo")
        assert (raised.value.status, raised.value.code) == (404, "model_not_downloaded")
        with pytest.raises(ServiceReplyError, match="the shelf is too high"):
            client.download_model("unreachable")
        with pytest.raises(ModelNotFoundError, match="'nothing'"):
            client.download_model("nothing")
        assert client.get_model_info("nothing") is None
        with pytest.raises(ModelNotFoundError):
            client.get_model_info("echo", "NPU", raise_on_not_found=True)
        assert client.get_model_info("ECHO-generic-cpu").alias == "echo"


def test_api_keys_are_required_on_the_port_and_not_on_the_socket(machine, monkeypatch):
    monkeypatch.setenv("CUPOLA_SERVER_API_KEYS", "sesame")
    with Client() as client:
        assert client.api_key == "sesame"
        client.download_model("echo")
        assert httpx.get(f"{client.endpoint}/models").status_code == 401
        with client.openai_client() as openai:
            assert openai.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}]).choices


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def methods(kind):
        return {name: method for name, method in vars(kind).items() if not name.startswith("_")}

    waiting, awaiting = methods(Client), methods(AsyncClient)
    assert list(waiting) == list(awaiting)
    for name, method in waiting.items():
        if not isinstance(method, property):
            assert inspect.signature(method).parameters == inspect.signature(awaiting[name]).parameters, name


def test_the_client_has_the_methods_of_foundry_locals_sdk():
    names = """is_service_running start_service service_uri endpoint api_key list_catalog_models get_model_info
    get_cache_location list_cached_models download_model is_model_upgradeable upgrade_model load_model unload_model
    list_loaded_models"""
    assert set(names.split()) <= set(dir(Client))
