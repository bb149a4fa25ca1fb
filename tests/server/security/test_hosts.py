"""By which names the service may be called, so that DNS rebinding finds a closed door."""

import httpx
import pytest

from cupola_server.openai.errors import HostRefusedError
from cupola_server.security import Hosts
from server.fake_engine import running

pytestmark = pytest.mark.anyio


async def app(scope, receive, send):
    """Answer everything, as a front-end of a third party may."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})


def allows(hosts, name):
    try:
        hosts.check({b"host": name.encode("latin-1")})
    except HostRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    ["localhost", "LOCALHOST:5272", "localhost.", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:5272", "[0:0::1]:1"],
)
def test_the_names_of_loopback_are_its_own(name):
    assert allows(Hosts(()), name)


@pytest.mark.parametrize(
    "name",
    [
        *["", "evil.example", "evil.example:5272", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2"],
        *["192.168.1.5", "[::2]", "localhost@evil.example", "evil.example#localhost", "[::1].evil.example", "ü", "*"],
    ],
)
def test_every_other_name_is_refused(name):
    assert not allows(Hosts(()), name)


@pytest.mark.parametrize(
    ("listed", "name"),
    [("box.lan", "Box.LAN:5272"), ("box.lan:80", "box.lan"), ("fd00::1", "[fd00::1]:5272"), ("*", "anything.example")],
)
def test_a_listed_name_is_allowed_whatever_the_port_and_the_case(listed, name):
    assert allows(Hosts((listed,)), name)
    assert not allows(Hosts(()), name)


def test_a_service_on_all_addresses_answers_by_bare_addresses_and_not_by_strange_names():
    hosts = Hosts(("0.0.0.0",), addresses=True)
    assert allows(hosts, "192.168.1.5:5272")
    assert allows(hosts, "[fd00::1]:5272")
    assert not allows(hosts, "evil.example")


def test_an_authority_of_http_2_counts_as_the_name():
    Hosts(()).check({b":authority": b"localhost:5272"})
    with pytest.raises(HostRefusedError):
        Hosts(()).check({b":authority": b"evil.example", b"host": b"localhost"})


async def test_no_front_end_sees_a_request_under_a_strange_name():
    async with running(app) as url, httpx.AsyncClient(base_url=url) as http:
        for method in ("GET", "POST", "OPTIONS"):
            reply = await http.request(method, "/", headers={"host": "evil.example"})
            assert reply.status_code == 421
            assert reply.json()["error"]["code"] == "host_not_allowed"
            assert "server.allowed_hosts" in reply.json()["error"]["message"]
        assert (await http.get("/healthz", headers={"host": "evil.example"})).status_code == 421
        assert (await http.get("/")).text == "in"


async def test_names_can_be_listed():
    async with running(app, allowed_hosts=("box.lan",)) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/", headers={"host": "box.lan:80"})).text == "in"
