"""A request keeps one name: in its reply and in the log."""

import logging

import anyio
import httpx
import pytest

from cupola_server.app import compose
from cupola_server.middleware import RequestIdFilter, label_logs, request_id
from cupola_server.openai import OpenAIFrontend
from server.fake_engine import FakeEngine, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http():
    async with running(compose([OpenAIFrontend()], FakeEngine())) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


@pytest.mark.parametrize("given", ["req-1", "0af7651916cd43dd8448eb211c80319c", "a" * 128])
async def test_the_clients_name_comes_back(http, given):
    for path in ("/v1/models", "/nothing", "/healthz"):
        assert (await http.get(path, headers={"x-request-id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", 'quote"', "tab\tbed", "ümlaut"])
async def test_a_name_that_could_forge_a_log_is_replaced(http, given):
    reply = await http.get("/v1/models", headers={b"x-request-id": given.encode()})
    assert reply.headers["x-request-id"].startswith("req_")


async def test_every_request_gets_a_name_of_its_own_also_when_it_is_refused(http):
    replies = [await http.get("/v1/models", headers={"host": host}) for host in ("x", "x", "evil.example")]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 3


async def test_log_lines_say_which_request_they_belong_to(caplog):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(deeper)
            raise ZeroDivisionError

    async def deeper():
        seen.append(request_id())

    caplog.handler.addFilter(RequestIdFilter())
    async with running(app) as url, httpx.AsyncClient() as client:
        reply = await client.get(url, headers={"x-request-id": "mine"})
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert seen == ["mine"]
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.request_id == "mine"
    assert request_id() == "-"


def test_the_handlers_of_the_log_show_it(capsys):
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        label_logs()
        logging.getLogger("cupola.test").error("hello")
    finally:
        logging.getLogger().removeHandler(handler)
    assert "ERROR cupola.test [-]: hello" in capsys.readouterr().err
