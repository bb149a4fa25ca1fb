"""How requests find their front-end."""

import anyio
import httpx
import pytest

from cupola.errors import PluginConflictError
from cupola.frontend import ApiFrontend
from cupola_server.app import compose
from cupola_server.openai import OpenAIFrontend
from cupola_server.service import RunningService
from server.fake_engine import FakeEngine, running

pytestmark = pytest.mark.anyio


class Named(ApiFrontend):
    """Answers everything with its name and the path it saw."""

    def __init__(self, name, *prefixes):
        self.name, self.prefixes = name, prefixes

    def app(self, engine):
        async def answer(scope, receive, send):
            body = f"{self.name} {scope['path']}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        return answer


class Broken(Named):
    """Cannot start."""

    def app(self, engine):
        raise ZeroDivisionError


async def get(app, path, method="GET"):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path)


async def test_the_longest_prefix_that_fits_wins_and_ends_at_a_slash():
    app = compose([Named("one", "/v1"), Named("deep", "/v1/deep", "/other/"), Named("v10", "/v10")], FakeEngine())
    for path, name in (
        *[("/v1", "one"), ("/v1/", "one"), ("/v1/x", "one"), ("/v1/deeper", "one")],
        *[("/v1/deep", "deep"), ("/v1/deep/er", "deep"), ("/other/x", "deep"), ("/v10/x", "v10")],
    ):
        assert (await get(app, path)).text == f"{name} {path}"


async def test_a_path_without_a_front_end_is_not_found_in_openais_shape():
    reply = await get(compose([Named("one", "/v1")], FakeEngine()), "/v11")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "unknown_url"


async def test_the_root_says_who_is_there():
    app = compose([Named("one", "/v1")], FakeEngine())
    assert (await get(app, "/")).text == "Cupola is running.\n"
    assert (await get(app, "/", "POST")).status_code == 405


async def test_a_front_end_may_take_the_root():
    app = compose([Named("all", "/"), Named("one", "/v1")], FakeEngine())
    assert (await get(app, "/")).text == "all /"
    assert (await get(app, "/x")).text == "all /x"
    assert (await get(app, "/v1/x")).text == "one /v1/x"


@pytest.mark.parametrize(("first", "second"), [("/v1", "/v1"), ("/v1", "/v1/"), ("/", "")])
def test_two_front_ends_with_one_prefix_are_an_error_that_names_both(first, second):
    with pytest.raises(PluginConflictError) as caught:
        compose([Named("one", first), Named("two", "/x", second)], FakeEngine())
    assert (caught.value.first, caught.value.second) == ("one", "two")


async def test_a_front_end_that_cannot_start_costs_only_itself(caplog):
    app = compose([Broken("broken", "/bad"), Named("one", "/v1")], FakeEngine())
    assert (await get(app, "/v1/x")).text == "one /v1/x"
    assert (await get(app, "/bad/x")).status_code == 404
    assert "'broken'" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_front_ends_are_told_of_the_service_before_they_build_and_one_that_fails_costs_only_itself():
    told = []

    class Curious(Named):
        def attach(self, service):
            told.append((self.name, service.urls))
            if self.name == "fails":
                raise ZeroDivisionError

        def app(self, engine):
            told.append(self.name)
            return super().app(engine)

    service = RunningService(anyio.Event(), ("http://127.0.0.1:1",))
    app = compose([Curious("fails", "/a"), Curious("works", "/b"), Named("plain", "/c")], FakeEngine(), None, service)
    assert told == [("fails", service.urls), ("works", service.urls), "works"]
    assert [(await get(app, path)).status_code for path in ("/a", "/b", "/c")] == [404, 200, 200]
    assert not service.stopping.is_set()
    service.stop()
    assert service.stopping.is_set()


async def test_a_websocket_is_turned_away():
    async with running(compose([OpenAIFrontend()], FakeEngine())) as url, httpx.AsyncClient() as client:
        for path in ("/", "/v1/models", "/v1/nothing", "/elsewhere"):
            headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
            reply = await client.get(url + path, headers={**headers, "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="})
            assert reply.status_code == 403
