"""Clients that leave: whatever they asked for stops."""

import json

import anyio
import pytest

pytestmark = pytest.mark.anyio


def chat(*, stream: bool) -> bytes:
    request = {"model": "tiny", "messages": [{"role": "user", "content": "Go on forever."}], "stream": stream}
    body = json.dumps(request).encode()
    headers = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST /v1/chat/completions HTTP/1.1\r\n{headers}\r\n".encode() + body


async def connected(url: str) -> anyio.abc.SocketStream:
    return await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))


async def test_leaving_a_stream_cancels_the_turn(url, engine):
    engine.script = ("Hello", anyio.Event())
    with anyio.fail_after(10):
        async with await connected(url) as connection:
            await connection.send(chat(stream=True))
            received = b""
            while b"Hello" not in received:
                received += await connection.receive()
            assert engine.running == 1
        await engine.left.wait()
    assert engine.running == 0


async def test_leaving_before_the_answer_is_whole_cancels_the_turn(url, engine):
    engine.script = ("Hello", anyio.Event())
    with anyio.fail_after(10):
        async with await connected(url) as connection:
            await connection.send(chat(stream=False))
            await engine.entering.wait()
            assert engine.running == 1
        await engine.left.wait()
    assert engine.running == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_while_the_turn_waits_to_be_accepted_gives_its_place_up(url, engine, stream):
    engine.accepting = anyio.Event()
    with anyio.fail_after(10):
        async with await connected(url) as connection:
            await connection.send(chat(stream=stream))
            await engine.entering.wait()
        await engine.left.wait()
    assert engine.running == 0


async def test_a_client_that_leaves_in_the_middle_of_its_body_asks_for_nothing(url, engine, http, caplog):
    with anyio.fail_after(10):
        async with await connected(url) as connection:
            await connection.send(chat(stream=False)[:-20])
        assert (await http.get("/v1/models")).status_code == 200
    assert engine.requests == []
    assert caplog.text == ""


async def test_the_official_client_cancels_by_closing_its_stream(client, engine):
    engine.script = ("Hello", anyio.Event())
    messages = [{"role": "user", "content": "Go on forever."}]
    with anyio.fail_after(10):
        stream = await client.chat.completions.create(model="tiny", messages=messages, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await engine.left.wait()
    assert engine.running == 0


async def test_the_first_bytes_leave_when_the_turn_is_accepted_and_before_there_is_text(url, engine):
    going = anyio.Event()
    engine.script = (going, "Hello")
    with anyio.fail_after(10):
        async with await connected(url) as connection:
            await connection.send(chat(stream=True))
            received = b""
            while b'"role":"assistant"' not in received:
                received += await connection.receive()
            assert received.startswith(b"HTTP/1.1 200")
            going.set()
            while b"[DONE]" not in received:
                received += await connection.receive()


async def test_a_client_that_does_not_read_slows_its_own_turn_and_fills_no_memory(url, engine):
    sent = 0

    class Endless:
        def __iter__(self):
            nonlocal sent
            while sent < 3000:
                sent += 1
                yield "x" * 100_000

    engine.script = Endless()
    with anyio.fail_after(60):
        async with await connected(url) as connection:
            await connection.send(chat(stream=True))
            await engine.entering.wait()
            for _ in range(5):
                await anyio.wait_all_tasks_blocked()
            assert engine.running == 1
            assert 0 < sent < 1000
        await engine.left.wait()
