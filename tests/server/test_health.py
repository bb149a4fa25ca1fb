"""/healthz and /readyz."""

import anyio
import httpx
import pytest

from cupola_server.app import compose
from cupola_server.health import Health
from cupola_server.openai import OpenAIFrontend
from server.fake_engine import FakeEngine, running
from server.test_app import Broken, get

pytestmark = pytest.mark.anyio


async def ready(health):
    return await get(compose([], FakeEngine(), health), "/readyz")


@pytest.mark.parametrize(
    ("health", "says"),
    [
        (Health(starting=True), "loading its preload models"),
        (Health(stopping=True), "stopping"),
        (Health(problem="No execution provider works."), "No execution provider works."),
    ],
    ids=["starting", "stopping", "unusable"],
)
async def test_a_service_that_cannot_take_requests_lives_and_is_not_ready(health, says):
    reply = await ready(health)
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "not_ready"
    assert says in reply.json()["error"]["message"]
    assert (await get(compose([], FakeEngine(), health), "/healthz")).json() == {"status": "ok"}


async def test_a_plugin_that_failed_is_named_and_costs_no_readiness():
    health = Health(failed_plugins={"azure"})
    app = compose([Broken("broken", "/bad")], FakeEngine(), health)
    reply = await get(app, "/readyz")
    assert reply.status_code == 200
    assert reply.json() == {"status": "ready", "failed_plugins": ["azure", "broken"]}


async def test_a_service_that_stops_is_not_ready_while_it_lets_answers_end():
    engine, health = FakeEngine(), Health()
    going = anyio.Event()
    engine.script = (going, "Hello")
    app = compose([OpenAIFrontend()], engine, health)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    replies = []

    async def chat(url):
        async with httpx.AsyncClient() as client:
            replies.append(await client.post(f"{url}/v1/chat/completions", json=body))

    async def look(url):
        async with httpx.AsyncClient() as client:
            while (reply := await client.get(f"{url}/readyz")).status_code == 200:
                pass
            assert reply.status_code == 503
            assert (await client.get(f"{url}/healthz")).status_code == 200
            assert (await client.get(f"{url}/v1/models")).json()["error"]["code"] == "server_stopping"
        going.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            async with running(app, health=health, drain_timeout_s=30) as url:
                tasks.start_soon(chat, url)
                await engine.entering.wait()
                tasks.start_soon(look, url)
    assert replies[0].status_code == 200
