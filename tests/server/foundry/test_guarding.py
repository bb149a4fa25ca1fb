"""GETs that change something are an invitation to every web page: the guard refuses them before they do anything."""

import httpx
import pytest

pytestmark = pytest.mark.anyio

CHANGING = (
    ("GET", "/openai/load/echo"),
    ("GET", "/openai/unload/phi-4?force=true"),
    ("GET", "/openai/unloadall?force=true"),
    ("GET", "/openai/setgpudevice/1"),
    ("GET", "/models/load/echo"),
    ("GET", "/models/unload/phi-4"),
    ("GET", "/catalogs/local/models/load/mine"),
    ("POST", "/openai/download"),
    ("POST", "/openai/register"),
    ("POST", "/shutdown"),
)
FROM_A_PAGE = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    {"sec-fetch-site": "same-site"},
    {"referer": "https://evil.example/page"},
    {"host": "evil.example"},
)


async def test_nothing_changes_for_a_page_of_another_site_nor_for_a_rebound_name(running, http):
    for alias in ("echo", "mine", "phi-4"):
        await running.engine.download(alias)
    await running.engine.load("phi-4")
    for method, path in CHANGING:
        for headers in FROM_A_PAGE:
            body = {"json": {"model": "slow"}} if method == "POST" else {}
            reply = await http.request(method, path, headers=headers, **body)
            assert reply.status_code == (421 if "host" in headers else 403), (method, path, headers)
    assert [resident.info.alias for resident in running.engine.residents()] == ["phi-4"]
    assert not any(status.info.alias == "slow" for status in running.engine.downloads())
    assert not running.service.stopping.is_set()


async def test_with_keys_every_path_of_the_dialects_needs_one(started):
    async with started({"api_keys": ("right",)}) as running, httpx.AsyncClient(base_url=running.url) as http:
        for method, path in (*CHANGING, ("GET", "/openai/status"), ("GET", "/foundry/list"), ("GET", "/status")):
            assert (await http.request(method, path)).status_code == 401
            assert (await http.request(method, path, headers={"authorization": "Bearer wrong"})).status_code == 401
        allowed = await http.get("/foundry/list", headers={"authorization": "Bearer right"})
        assert allowed.status_code == 200


async def test_a_page_of_the_service_itself_may(running, http):
    await running.engine.download("echo")
    for headers in ({"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"referer": f"{running.url}/"}):
        assert (await http.get("/openai/load/echo", headers=headers)).status_code == 200
