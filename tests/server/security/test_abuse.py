"""Clients that are hostile, broken or gone: the service answers all others, and its memory returns to where it was."""

import contextlib
import json
import socket
import struct

import pytest

from server.security.conftest import CHAT, FOREVER
from waiting import until

pytestmark = pytest.mark.anyio

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def request(body, head=HEAD):
    data = json.dumps(body).encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(data) + data


def read(connection, until_seen=None):
    """Read what comes, to the end or until something is seen."""
    received = b""
    while (until_seen is None or until_seen not in received) and (more := connection.recv(65536)):
        received += more
    return received


def vanish(connection, how):
    """Close with a farewell (FIN), or without one (RST)."""
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def test_500_half_open_connections_hold_nobody_up_and_leave_no_trace(victim):
    assert victim.chat()
    before_mb = victim.memory_mb
    halves = [b"", b"POST /v1/ch", HEAD, request(CHAT)[:-10]]
    connections = [victim.connect(halves[number % len(halves)]) for number in range(500)]
    assert all(victim.chat() for _ in range(20))
    for connection in connections:
        connection.close()
    await until(lambda: victim.connections <= 2, within_s=20)
    assert victim.in_flight == 0
    assert victim.memory_mb - before_mb < 40


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_a_body_of_64_mb_is_refused_and_leaves_no_trace(victim, announced):
    assert victim.chat()
    before_mb = victim.memory_mb
    piece = b"x" * (1 << 20)
    with victim.connect(HEAD) as connection:
        connection.sendall(
            b"Content-Length: %d\r\n\r\n" % (64 << 20) if announced else b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):  # it stops listening to us
            for _ in range(64):
                connection.sendall(piece if announced else b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.sendall(b"" if announced else b"0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            reply = read(connection, b"}}")
            assert reply.startswith(b"HTTP/1.1 413 ")
            assert b'"code":"request_too_large"' in reply
    assert victim.chat()
    assert victim.memory_mb - before_mb < 40


@pytest.mark.parametrize("how", ["farewell", "reset"])
async def test_clients_may_vanish_at_every_stage(victim, how):
    whole = request(FOREVER)
    stages = [0, 1, 10, len(HEAD) - 2, len(HEAD) + 5, whole.index(b"\r\n\r\n") + 4, len(whole) - 1, len(whole)]
    for sent in stages * 5:
        vanish(victim.connect(whole[:sent]), how)
    for seen in (b"HTTP/1.1 200", b"data: ", b"again "):
        connection = victim.connect(whole)
        read(connection, seen)
        vanish(connection, how)
        assert victim.chat()
    await until(lambda: victim.in_flight == 0, within_s=15)
    assert victim.chat()


async def test_a_client_that_reads_slowly_is_waited_for_without_filling_memory(victim):
    assert victim.chat()
    before_mb = victim.memory_mb
    with victim.connect(request(FOREVER)) as connection:
        read(connection, b"again ")
        assert all(victim.chat() for _ in range(20))
        assert victim.in_flight == 1
        assert victim.memory_mb - before_mb < 40
    await until(lambda: victim.in_flight == 0, within_s=15)


async def test_a_client_that_sends_one_byte_now_and_then_is_cut_off(start_victim):
    victim = start_victim(body_timeout_s=0.3, idle_timeout_s=0.3)
    with victim.connect(HEAD[:20]) as in_head, victim.connect(request(CHAT)[:-10]) as in_body:
        assert read(in_head) == b""
        reply = read(in_body)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in reply
    assert victim.chat()


async def test_an_idle_connection_is_closed(start_victim):
    victim = start_victim(idle_timeout_s=0.3)
    with victim.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        reply = read(connection)
    assert reply.endswith(b'{"status":"ok"}')


async def test_a_head_beyond_the_limit_is_refused(victim):
    with victim.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 100_000) as connection:
        reply = b""
        with contextlib.suppress(ConnectionError):
            reply = read(connection)
    assert reply[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense",
    ],
    ids=str,
)
async def test_what_is_no_http_ends_its_own_connection_alone(victim, garbage):
    with victim.connect(garbage) as connection:
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in read(connection)
    assert victim.chat()


async def test_a_body_that_is_no_utf_8_is_a_bad_request(victim):
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff\xfe\x00"}]}'
    reply = victim.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b"[" * 8_000_000, b'{"a":' * 1_000_000, b'{"messages":' + b"[[]," * 200 + b"]" * 200])
async def test_deeply_nested_json_is_a_bad_request(victim, body):
    reply = victim.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
    assert "nested" in reply.json()["error"]["message"]


async def test_a_client_may_wait_for_leave_to_send_its_body(victim):
    whole = request(CHAT, HEAD + b"Expect: 100-continue\r\nConnection: close\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    with victim.connect(head + b"\r\n\r\n") as connection:
        assert read(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert b"Hello, world" in read(connection)


async def test_pipelined_requests_are_answered_in_order(victim):
    with victim.connect() as connection:
        last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(request(CHAT) * 5 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + last)
        received = read(connection)
    assert received.count(b"Hello, world") == 5
    assert received.index(b'{"status":"ok"}') > received.rindex(b"Hello, world")
    assert received.index(b"unknown_url") > received.index(b'{"status":"ok"}')
