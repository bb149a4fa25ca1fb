"""The bounds of bodies hold for every front-end, also one that knows nothing of them."""

import anyio
import httpx
import pytest

from server.fake_engine import running

pytestmark = pytest.mark.anyio
MB = 1 << 20


class Reader:
    """A front-end of somebody else, which reads all it is sent."""

    def __init__(self, *, answer_first=False):
        self.answer_first = answer_first
        self.messages = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        if self.answer_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        size = 0
        while True:
            message = await receive()
            self.messages.append(message["type"])
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        if not self.answer_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})


async def chunks(size):
    for _ in range(0, size, 65536):
        yield b"x" * 65536


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_a_body_at_the_limit_passes_and_one_beyond_is_refused(announced):
    reader = Reader()
    async with running(reader, max_body_mb=1) as url, httpx.AsyncClient(base_url=url) as http:
        for size, status in ((MB, 200), (MB + 65536, 413), (5 * MB, 413)):
            content = b"x" * size if announced else chunks(size)
            reply = await http.post("/", content=content)
            assert reply.status_code == status
        assert reply.json()["error"]["code"] == "request_too_large"
        assert (await http.post("/", content=b"abc")).text == "3"


async def test_beyond_the_limit_a_front_end_sees_its_client_leave():
    reader = Reader()
    async with running(reader, max_body_mb=1) as url, httpx.AsyncClient() as http:
        await http.post(url, content=chunks(2 * MB))
    assert reader.messages[-1] == "http.disconnect"


async def test_a_reply_that_began_before_the_body_broke_the_limit_breaks_off():
    async with running(Reader(answer_first=True), max_body_mb=1) as url, httpx.AsyncClient() as http:
        with pytest.raises(httpx.TransportError):
            await http.post(url, content=chunks(2 * MB))


async def test_a_body_that_stalls_is_given_up_and_the_front_end_sees_its_client_leave():
    reader, received = Reader(), b""
    with anyio.fail_after(20):
        async with running(reader, body_timeout_s=0.2) as url:
            async with await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2])) as connection:
                await connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
                while b"body_timeout" not in received:
                    received += await connection.receive()
    assert received.startswith(b"HTTP/1.1 408 ")
    assert reader.messages == ["http.request", "http.disconnect"]


async def test_waiting_for_the_client_to_leave_has_no_limit():
    done = anyio.Event()

    async def waits(scope, receive, send):
        if scope["type"] != "http":
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        done.set()

    async with running(waits, body_timeout_s=0.1) as url, httpx.AsyncClient() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(url, content=b"abc", timeout=0.5)
        with anyio.fail_after(5):
            await done.wait()
