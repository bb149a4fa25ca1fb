"""API keys: asked for everywhere once there are any, needed where others can reach the service, shown nowhere."""

import logging

import httpx
import pytest

from cupola import load_settings
from cupola.errors import SettingsError
from cupola.frontend import Settings
from cupola.settings import ServerSettings
from cupola_server.app import compose
from cupola_server.openai import OpenAIFrontend
from cupola_server.security import read_keys
from server.fake_engine import FakeEngine, running

pytestmark = pytest.mark.anyio
KEY = "sk-cupola-7c2b"


@pytest.fixture
async def http():
    app = compose([OpenAIFrontend()], FakeEngine())
    async with running(app, api_keys=(KEY, "second")) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer  {KEY}", "Bearer second"])
async def test_each_key_opens_the_door(http, authorization):
    assert (await http.get("/v1/models", headers={"authorization": authorization})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": KEY},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY},second"},
        {b"authorization": b"Bearer \xff"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/models", "/nothing", "/", "/openapi.json"])
async def test_without_a_key_nothing_is_answered(http, headers, path, caplog):
    with caplog.at_level(logging.DEBUG):
        reply = await http.get(path, headers=headers)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert KEY[:-1] not in reply.text
    assert not any(KEY[:-1] in r.getMessage() for r in caplog.records if not r.name.startswith("http"))


async def test_health_is_told_without_a_key(http):
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).status_code == 200


async def test_without_keys_any_header_is_ignored():
    async with running(compose([OpenAIFrontend()], FakeEngine())) as url, httpx.AsyncClient() as http:
        reply = await http.get(f"{url}/v1/models", headers={"authorization": "Bearer whatever clients make up"})
    assert reply.status_code == 200


async def test_with_a_key_other_machines_may_be_served():
    app = compose([OpenAIFrontend()], FakeEngine())
    async with running(app, host="0.0.0.0", api_keys=(KEY,)) as url, httpx.AsyncClient() as http:
        models = f"http://127.0.0.1:{url.rpartition(':')[2]}/v1/models"
        assert (await http.get(models)).status_code == 401
        assert (await http.get(models, headers={"authorization": f"Bearer {KEY}"})).status_code == 200


async def test_keys_come_from_a_file_too(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of my laptop\n{KEY}\n\n  second  \n")
    keys = await read_keys(ServerSettings(api_keys=("third",), api_key_file=str(file)))
    for key in (KEY, "second", "third"):
        keys.check({b"authorization": f"Bearer {key}".encode()})
    assert keys
    assert not await read_keys(ServerSettings())


@pytest.mark.parametrize("content", [b"", b"# none\n", b"\xff\xfe", None], ids=["empty", "comment", "binary", "absent"])
async def test_a_key_file_that_holds_none_is_an_error(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        await read_keys(ServerSettings(api_key_file=str(file)))
    assert caught.value.key == "server.api_key_file"


@pytest.mark.parametrize("key", ["", "two words", "ключ", "line\nend"])
async def test_a_key_that_no_header_can_bring_is_an_error_that_does_not_quote_it(key):
    with pytest.raises(SettingsError) as caught:
        await read_keys(ServerSettings(api_keys=(key,)))
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "keys"),
    [(KEY, (KEY,)), (f"{KEY}, second", (KEY, "second")), (f'["{KEY}", "second"]', (KEY, "second"))],
)
def test_keys_come_from_the_environment(text, keys):
    assert load_settings(environ={"CUPOLA_CONFIG": "/dev/null", "CUPOLA_SERVER_API_KEYS": text}).server.api_keys == keys


def test_keys_are_shown_by_no_settings_and_given_to_no_worker():
    settings = Settings(server=ServerSettings(api_keys=(KEY,)))
    assert KEY not in repr(settings)
    assert "(1 hidden)" in repr(settings)
    assert settings.for_workers().server.api_keys == ()
