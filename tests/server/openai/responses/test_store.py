"""The store as clients meet it: damaged, full, expired, unwritable."""

import sys

import anyio
import openai
import pytest

from cupola.frontend import Settings
from cupola.settings import ResponseSettings
from cupola_server.openai import OpenAIFrontend
from cupola_server.openai.responses.store import RecordFolder, ResponseStore
from server.fake_engine import running

pytestmark = pytest.mark.anyio


async def test_the_oldest_response_goes_when_there_are_too_many(engine, tmp_path):
    settings = Settings(responses=ResponseSettings(dir=str(tmp_path), max_stored=2))
    async with running(OpenAIFrontend(settings).app(engine)) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            first, second, third = [await client.responses.create(model="tiny", input="Hello") for _ in range(3)]
            for kept in (second, third):
                assert await client.responses.retrieve(kept.id) == kept
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(first.id)


async def test_responses_are_found_after_a_restart(engine, settings):
    async def serving(use):
        async with running(OpenAIFrontend(settings).app(engine)) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
                return await use(client.responses)

    reply = await serving(lambda responses: responses.create(model="tiny", input="Hello"))
    assert await serving(lambda responses: responses.retrieve(reply.id)) == reply


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"response": {}}', b"[1]", b"null"])
async def test_a_damaged_file_counts_as_none_and_harms_nothing_else(client, tmp_path, caplog, damage):
    reply = await client.responses.create(model="tiny", input="Hello")
    (tmp_path / "responses" / f"{reply.id}.json").write_bytes(damage)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(reply.id)
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="tiny", input="More", previous_response_id=reply.id)
    assert "damaged" in caplog.text
    assert "Traceback" not in caplog.text
    other = await client.responses.create(model="tiny", input="Hello")
    assert await client.responses.retrieve(other.id) == other
    await client.responses.delete(reply.id)


async def test_a_store_that_cannot_be_written_is_an_error_before_the_model_is_asked(client, engine, tmp_path):
    (tmp_path / "responses").write_bytes(b"a file where a folder should be")
    with pytest.raises(openai.InternalServerError) as caught:
        await client.responses.create(model="tiny", input="Hello")
    assert caught.value.code == "store_unusable"
    assert caught.value.param == "store"
    assert str(tmp_path) not in caught.value.body["message"]
    assert engine.requests == []
    assert (await client.responses.create(model="tiny", input="Hello", store=False)).output_text == "Hello, world"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_not_lost_when_the_disk_fails_and_says_that_it_is_not_stored(
    client, engine, tmp_path, stream, caplog
):
    going = anyio.Event()
    engine.script = (going, "Hello")

    async def fail_the_disk():
        await engine.entering.wait()
        (tmp_path / "responses").rmdir()
        (tmp_path / "responses").write_bytes(b"")
        going.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail_the_disk)
        reply = await client.responses.create(model="tiny", input="Hello", stream=stream)
        if stream:
            reply = [event async for event in reply][-1].response
    assert reply.output_text == "Hello"
    assert reply.store is False
    assert "cannot be used" in caplog.text


async def test_the_store_does_not_block_the_event_loop(tmp_path):
    class SlowFolder(RecordFolder):
        def get(self, key):
            anyio.from_thread.run(entered.set_soon)
            anyio.from_thread.run(going.wait)

    class Entered:
        def __init__(self):
            self.event = anyio.Event()

        async def set_soon(self):
            self.event.set()

    entered, going = Entered(), anyio.Event()
    store = ResponseStore(SlowFolder(tmp_path, limit=1, ttl_s=1))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.get, "resp_00000000")
            await entered.event.wait()
            going.set()
