"""Background responses: begun, asked for, cancelled; and clients that leave."""

import json

import anyio
import openai
import pytest

from cupola.errors import QueueFullError, WorkerDiedError
from cupola_server.openai import OpenAIFrontend
from server.fake_engine import FakeEngine, running
from server.openai.responses.wire import check_response
from waiting import until

pytestmark = pytest.mark.anyio


async def eventually(client, response, *statuses):
    with anyio.fail_after(10):
        while response.status not in statuses:
            response = await client.responses.retrieve(response.id)
    return response


async def test_a_background_response_is_queued_then_written_then_complete(client, engine):
    going = anyio.Event()
    engine.script = ("Hel", going, "lo")
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    assert response.status == "queued"
    assert response.background
    assert response.output == []
    response = await eventually(client, response, "in_progress")
    going.set()
    response = await eventually(client, response, "completed")
    assert response.output_text == "Hello"
    assert response.usage.total_tokens == 14


async def test_its_states_have_openais_fields_and_types(http, engine):
    engine.script = ("Hel", anyio.Event())
    response = (await http.post("/v1/responses", json={"model": "tiny", "input": "x", "background": True})).json()
    check_response(response)
    path = f"/v1/responses/{response['id']}"
    check_response((await http.get(path)).json())
    check_response((await http.post(f"{path}/cancel")).json())
    check_response((await http.get(path)).json())


async def test_it_outlives_the_connection_that_asked_for_it(url, client, engine):
    going = anyio.Event()
    engine.script = (going, "Hello")
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as other:
        response = await other.responses.create(model="tiny", input="Hello", background=True)
    await engine.entering.wait()
    assert engine.running == 1
    going.set()
    assert (await eventually(client, response, "completed")).output_text == "Hello"


async def test_cancelling_stops_the_turn_and_keeps_what_was_written(client, engine):
    engine.script = ("Hel", anyio.Event())
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    await engine.entering.wait()
    with anyio.fail_after(10):
        cancelled = await client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert engine.running == 0
    assert await client.responses.retrieve(response.id) == cancelled
    assert await client.responses.cancel(response.id) == cancelled


async def test_cancelling_what_is_over_changes_nothing(client):
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    response = await eventually(client, response, "completed")
    assert await client.responses.cancel(response.id) == response


async def test_a_response_that_did_not_run_in_the_background_cannot_be_cancelled(client):
    response = await client.responses.create(model="tiny", input="Hello")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await client.responses.cancel(response.id)


async def test_deleting_a_running_one_stops_it(client, engine):
    engine.script = ("Hel", anyio.Event())
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    await engine.entering.wait()
    with anyio.fail_after(10):
        await client.responses.delete(response.id)
    assert engine.running == 0
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkerDiedError(model="tiny", detail="signal 9"), "server_error"),
        (QueueFullError(model="tiny", limit=4), "rate_limit_exceeded"),
    ],
)
async def test_one_that_fails_says_why(client, engine, error, code):
    engine.script = ("Hel", error)
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    response = await eventually(client, response, "failed")
    assert response.error.code == code
    assert response.error.message == str(error)
    assert response.output_text == "Hel"


async def test_one_that_crashes_is_failed_too(client, engine, caplog):
    engine.script = (RuntimeError("/home/me/secret"),)
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    response = await eventually(client, response, "failed")
    assert "secret" not in response.error.message
    await until(lambda: "secret" in caplog.text)


async def test_one_whose_service_stopped_is_failed(settings, engine):
    engine.script = ("Hel", anyio.Event())
    async with running(OpenAIFrontend(settings).app(engine)) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as client:
            response = await client.responses.create(model="tiny", input="Hello", background=True)
            await engine.entering.wait()
    assert engine.running == 0
    async with running(OpenAIFrontend(settings).app(FakeEngine())) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            response = await client.responses.retrieve(response.id)
            assert response.status == "failed"
            assert "stopped" in response.error.message
            assert (await client.responses.cancel(response.id)).status == "failed"


async def test_a_conversation_does_not_go_on_from_one_that_is_being_written(client, engine):
    engine.script = ("Hel", anyio.Event())
    response = await client.responses.create(model="tiny", input="Hello", background=True)
    with pytest.raises(openai.BadRequestError, match="not complete yet") as caught:
        await client.responses.create(model="tiny", input="More", previous_response_id=response.id)
    assert caught.value.param == "previous_response_id"
    await client.responses.cancel(response.id)


def request(**fields):
    body = json.dumps({"model": "tiny", "input": "Go on forever.", **fields}).encode()
    headers = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST /v1/responses HTTP/1.1\r\n{headers}\r\n".encode() + body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_turn_and_nothing_is_stored(url, engine, tmp_path, stream):
    engine.script = ("Hello", anyio.Event())
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2])) as connection:
            await connection.send(request(stream=stream))
            await engine.entering.wait()
            assert engine.running == 1
        await engine.left.wait()
    assert engine.running == 0
    assert list((tmp_path / "responses").iterdir()) == []
