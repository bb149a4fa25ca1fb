"""`cupola model load` and `unload`, by the background service."""

import anyio
import msgspec
import pytest

from cupola.client import api
from cupola.errors import ServiceReplyError, ServiceUnreachableError
from cupola.frontend import Settings
from cupola.settings import ServerSettings
from cupola_server.cli.remote import open_service

ECHO = "echo-generic-cpu:1"


@pytest.fixture
def ready(machine):
    """A machine with the model in its cache."""
    assert machine.run("model", "download", "echo").returncode == 0
    return machine


def test_a_model_is_loaded_into_the_service_which_is_started_for_it(ready):
    assert ready.agent() is None
    done = ready.run("model", "load", "echo", "--ttl", "30")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{ECHO} is loaded (")
    assert done.stdout.endswith(" and unloads after 30 idle seconds.\n")
    assert ready.run("model", "load", "echo", "--ttl", "0").stdout.endswith(" and stays loaded.\n")
    assert ready.run("model", "unload", "echo", "--wait", "1").stdout == "echo is unloaded.\n"
    assert ready.run("model", "unload", "echo").stdout == "echo was not loaded.\n"


def test_a_model_is_loaded_on_the_provider_and_the_device_that_are_asked_for(ready):
    done = ready.run("model", "load", "echo", "--provider", "echo", "--device", "cpu")
    assert done.stdout.startswith(f"{ECHO} is loaded ("), done.stderr
    refused = ready.run("model", "load", "echo", "--provider", "cuda")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Unknown execution provider 'cuda'. Available: echo" in refused.stderr
    assert ready.run("model", "load", "echo", "--device", "NPU").returncode == 1


def test_unloading_starts_no_service(ready):
    done = ready.run("model", "unload", "echo", "--force")
    assert (done.returncode, done.stdout) == (0, "echo was not loaded; no service is running.\n")
    assert ready.agent() is None


@pytest.mark.parametrize(
    ("name", "sentence"), [("ecko", "Did you mean 'echo'"), ("unreachable", "has not been downloaded")]
)
def test_what_cannot_be_loaded_is_one_sentence(machine, name, sentence):
    done = machine.run("model", "load", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr


def test_the_service_is_reached_by_its_address_too_with_a_key_if_it_wants_one(ready):
    ready.extra["CUPOLA_SERVER_API_KEYS"] = "sesame"
    assert ready.run("model", "load", "echo").returncode == 0
    info = msgspec.structs.replace(ready.agent(), socket="")

    async def ask(key):
        settings = Settings(server=ServerSettings(api_keys=(key,)))
        async with open_service(info, settings) as service:
            return [model.id for model in (await service.do(api.LIST_LOADED)).models]

    assert anyio.run(ask, "sesame") == [ECHO]
    with pytest.raises(ServiceReplyError, match="API key"):
        anyio.run(ask, "wrong")


def test_a_service_that_has_gone_is_told(ready):
    ready.run("model", "load", "echo")
    info = ready.agent()
    ready.end()
    ready.wait_for_end()

    async def ask():
        async with open_service(info, ready.settings()) as service:
            await service.do(api.LIST_LOADED)

    with pytest.raises(ServiceUnreachableError, match="`cupola service status` to see"):
        anyio.run(ask)
