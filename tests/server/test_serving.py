"""Binding, serving and stopping, with real sockets."""

import logging
import socket

import anyio
import httpx
import pytest

from cupola.errors import SettingsError
from cupola.settings import ServerSettings
from cupola_server.listeners import ListenError, PortInUseError, listen
from cupola_server.server import serve
from server.fake_engine import running

pytestmark = pytest.mark.anyio


class Application:
    """Answers "/slow" when `release` is set, anything else at once without reading the body."""

    def __init__(self):
        self.release = anyio.Event()
        self.entered = anyio.Event()
        self.cancelled = anyio.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/slow":
            self.entered.set()
            try:
                await self.release.wait()
            except anyio.get_cancelled_exc_class():
                self.cancelled.set()
                raise
        if scope["path"] == "/endless":
            self.entered.set()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        if scope["path"] == "/stuck":
            self.entered.set()
            await anyio.sleep_forever()
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def application():
    return Application()


async def refusal(**settings):
    """Return what serving with these settings raises."""
    ready = pytest.fail
    with pytest.raises((SettingsError, ListenError)) as caught:
        await serve(Application(), ServerSettings(**settings), ready=ready, stop=anyio.Event())
    return caught.value


async def test_port_zero_takes_a_free_port_and_tells_which(application):
    async with running(application) as first, running(application) as second, httpx.AsyncClient() as client:
        assert first != second
        for url in (first, second):
            assert url.startswith("http://127.0.0.1:")
            assert (await client.get(url)).text == "ok"


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.2"])
async def test_every_loopback_host_can_be_served(application, host):
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        async with running(application, host=host) as url, httpx.AsyncClient() as client:
            assert (await client.get(url)).text == "ok"
    except* ListenError:
        pytest.skip(f"this machine has no {host}")


async def test_a_port_in_use_is_one_clear_error(application):
    async with running(application) as url:
        port = int(url.rpartition(":")[2])
        error = await refusal(port=port)
    assert isinstance(error, PortInUseError)
    assert (error.host, error.port) == ("127.0.0.1", port)
    assert "in use" in str(error)
    assert "server.port" in str(error)


async def test_a_port_that_is_only_bound_is_in_use_too():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert isinstance(await refusal(port=other.getsockname()[1]), PortInUseError)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "", "no such host.invalid"])
async def test_a_host_that_is_not_this_machine_alone_is_refused(host):
    error = await refusal(host=host, port=0)
    assert isinstance(error, SettingsError)
    assert error.key == "server.host"


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_port_that_is_none_is_refused(port):
    error = await refusal(port=port)
    assert isinstance(error, SettingsError)
    assert error.key == "server.port"


async def test_stopping_lets_a_running_request_end_and_refuses_every_other(application):
    texts = []

    async def ask(url):
        async with httpx.AsyncClient() as client:
            texts.append((await client.get(f"{url}/slow")).text)

    async def ask_more(url):
        async with httpx.AsyncClient() as client:
            while (reply := await client.get(url)).status_code == 200:
                pass
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "server_stopping"
        application.release.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            async with running(application, drain_timeout_s=30) as url:
                tasks.start_soon(ask, url)
                await application.entered.wait()
                tasks.start_soon(ask_more, url)
    assert texts == ["ok"]
    with pytest.raises(OSError, match="connection attempts failed"):
        await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))


async def test_a_request_that_outlasts_the_drain_is_cancelled_and_told_so(application):
    replies = []

    async def ask(url):
        async with httpx.AsyncClient() as client:
            replies.append(await client.get(f"{url}/slow"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            async with running(application, drain_timeout_s=0.1) as url:
                tasks.start_soon(ask, url)
                await application.entered.wait()
    assert application.cancelled.is_set()
    [reply] = replies
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "server_stopping"


async def test_an_answer_that_outlasts_the_drain_breaks_off(application):
    async def ask(url):
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{url}/stuck")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            async with running(application, drain_timeout_s=0.1) as url:
                tasks.start_soon(ask, url)
                await application.entered.wait()


async def test_a_client_that_never_reads_does_not_hold_up_stopping(application):
    with anyio.fail_after(20):
        async with running(application, drain_timeout_s=0.1) as url:
            silent = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
            await silent.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            await application.entered.wait()
            await anyio.wait_all_tasks_blocked()
        await silent.aclose()


async def test_stopping_does_not_wait_for_idle_connections(application):
    with anyio.fail_after(10):
        async with httpx.AsyncClient() as client:
            async with running(application, drain_timeout_s=300) as url:
                await client.get(url)
                silent = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
            await silent.aclose()


async def test_cancelling_stops_without_the_drain(application):
    started = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            settings = ServerSettings(port=0, drain_timeout_s=300)
            urls = []

            async def run():
                await serve(
                    application, settings, ready=lambda url: (urls.append(url), started.set()), stop=anyio.Event()
                )

            async def ask():
                async with httpx.AsyncClient() as client:
                    await client.get(f"{urls[0]}/slow")

            tasks.start_soon(run)
            await started.wait()
            tasks.start_soon(ask)
            await application.entered.wait()
            tasks.cancel_scope.cancel()
    assert application.cancelled.is_set()


async def test_the_port_is_free_again_after_stopping(application):
    async with running(application) as url:
        pass
    port = int(url.rpartition(":")[2])
    async with running(application, port=port) as again:
        assert again == url


async def test_an_answer_reaches_a_client_that_still_sends_what_nobody_reads(application):
    async with running(application) as url, httpx.AsyncClient() as client:
        for _ in range(2):
            assert (await client.post(url, content=b"x" * 15_000_000)).text == "ok"


async def test_hypercorn_speaks_through_logging_and_not_on_the_terminal(application, caplog, capfd):
    with caplog.at_level(logging.INFO, logger="hypercorn.error"):
        async with running(application):
            pass
    assert "Running on http://127.0.0.1" in caplog.text
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


async def test_replies_do_not_wait_for_acknowledgements():
    [listener] = await listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert connection.proto == socket.IPPROTO_TCP


async def test_the_server_does_not_advertise_itself(application):
    async with running(application) as url, httpx.AsyncClient() as client:
        assert "server" not in (await client.get(url)).headers
