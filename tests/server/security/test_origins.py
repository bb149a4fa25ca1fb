"""Web pages are kept out unless they are listed, whatever they ask for."""

import httpx
import pytest

from cupola.errors import SettingsError
from cupola_server.security import Origins
from server.fake_engine import running
from server.security.test_hosts import app

pytestmark = pytest.mark.anyio
PAGE = "https://app.example"


@pytest.fixture
async def closed():
    async with running(app) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


@pytest.fixture
async def listed():
    async with running(app, cors_origins=(PAGE,)) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": PAGE},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1"},
        {"origin": "chrome-extension://abc"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"referer": f"{PAGE}/page"},
        {"referer": "http://127.0.0.1:1/page"},
        {"referer": "about:blank"},
    ],
    ids=str,
)
async def test_another_page_is_refused_with_every_method(closed, method, headers):
    reply = await closed.request(method, "/anything", headers=headers)
    assert reply.status_code == 403
    assert not any(name.startswith("access-control") for name in reply.headers)
    if method != "HEAD":
        assert reply.json()["error"]["code"] == "origin_not_allowed"


async def test_programs_and_own_pages_come_in(closed):
    own = str(closed.base_url).rstrip("/")
    for headers in (
        *({}, {"origin": own}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}),
        *({"referer": f"{own}/page"}, {"referer": PAGE, "sec-fetch-site": "none"}, {"referer": ""}),
    ):
        reply = await closed.post("/", headers=headers)
        assert reply.text == "in"
        assert not any(name.startswith("access-control") for name in reply.headers)


async def test_a_listed_page_comes_in_and_may_read_the_reply(listed):
    reply = await listed.post("/", headers={"origin": PAGE})
    assert reply.text == "in"
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in reply.headers["access-control-expose-headers"]
    assert reply.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in reply.headers
    assert (await listed.post("/", headers={"origin": "https://app.example.evil"})).status_code == 403
    assert (await listed.get("/", headers={"referer": f"{PAGE}/page"})).text == "in"
    assert (await listed.get("/", headers={"referer": f"{PAGE}.evil/page"})).status_code == 403
    assert (await listed.get("/", headers={"sec-fetch-site": "cross-site"})).status_code == 403


async def test_a_listed_page_may_read_errors_too():
    async with running(app, cors_origins=(PAGE,), api_keys=("key",)) as url, httpx.AsyncClient(base_url=url) as http:
        reply = await http.post("/", headers={"origin": PAGE})
    assert reply.status_code == 401
    assert reply.headers["access-control-allow-origin"] == PAGE


async def test_a_preflight_of_a_listed_page_is_answered_also_without_a_key():
    headers = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-os",
        "access-control-request-private-network": "true",
    }
    async with running(app, cors_origins=(PAGE,), api_keys=("key",)) as url, httpx.AsyncClient(base_url=url) as http:
        reply = await http.options("/v1/chat/completions", headers=headers)
        other = await http.options("/v1/chat/completions", headers={**headers, "origin": "https://evil.example"})
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == headers["access-control-request-headers"]
    assert reply.headers["access-control-allow-private-network"] == "true"
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


async def test_private_network_is_allowed_only_where_it_is_asked_for(listed):
    reply = await listed.options("/", headers={"origin": PAGE, "access-control-request-method": "GET"})
    assert reply.status_code == 204
    assert "access-control-allow-private-network" not in reply.headers


@pytest.mark.parametrize("listed", ["*", "app.example", ""])
def test_what_is_no_origin_or_opens_the_service_to_all_is_refused_at_start(listed):
    with pytest.raises(SettingsError) as caught:
        Origins((listed,), keyed=False)
    assert caught.value.key == "server.cors_origins"


def test_with_keys_every_page_may_be_let_in():
    assert Origins(("*",), keyed=True).admit({b"origin": b"https://any.example"})


async def test_a_websocket_of_another_page_is_turned_away_before_a_front_end_sees_it():
    seen = []

    async def watching(scope, receive, send):
        seen.append(scope["type"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "origin": PAGE}
    async with running(watching) as url, httpx.AsyncClient() as http:
        reply = await http.get(url, headers={**headers, "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert reply.status_code == 403
    assert "websocket" not in seen
