"""The client against a real socket that sends responses as observed from servers."""

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.frontend import Message
from cupola_server.bench.client import ChatClient, EventStreamParser
from cupola_server.bench.errors import TargetError
from cupola_server.bench.prompts import Prompt

PROMPT = Prompt((Message("user", "Hello"),), (1, 2, 3))
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}}

pytestmark = pytest.mark.anyio


def text(content):
    return {"choices": [{"delta": {"content": content}}]}


def events(*payloads, done=True):
    lines = [f"data: {json.dumps(payload)}\n\n" for payload in payloads]
    return [*lines, *(["data: [DONE]\n\n"] if done else [])]


def chunked(parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part.encode()) for part in parts) + b"0\r\n\r\n"


@given(st.data())
def test_however_the_bytes_arrive_the_events_are_the_same(data):
    parts = [": keep-alive\n\n", *events(text("a"), text("é"), USAGE)]
    raw = data.draw(st.sampled_from([CHUNKED + chunked(parts), PLAIN + "".join(parts).encode()]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    parser, found = EventStreamParser(), []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        found += parser.feed(raw[start:end])
    assert parser.status == 200
    assert [json.loads(event) for event in found[:-1]] == [text("a"), text("é"), USAGE]
    assert found[-1] == b"[DONE]"


class Server:
    """Responds to every request with the same bytes, and remembers the request."""

    def __init__(self, response):
        self.response, self.request = response, b""

    async def __aenter__(self):
        self.listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.group = await anyio.create_task_group().__aenter__()
        self.group.start_soon(self.listener.serve, self.respond)
        port = self.listener.extra(anyio.abc.SocketAttribute.local_port)
        return ChatClient("peer", f"http://127.0.0.1:{port}/v1", "tiny", {"ignore_eos": True}, key="secret"), self

    async def __aexit__(self, *error):
        self.group.cancel_scope.cancel()
        await self.group.__aexit__(None, None, None)
        await self.listener.aclose()

    async def respond(self, stream):
        async with stream:
            while b"\r\n\r\n" not in self.request or not self.request.endswith(b"}"):
                self.request += await stream.receive()
            await stream.send(self.response)


async def test_a_response_has_a_time_for_every_piece_and_the_token_usage_of_the_server():
    raw_response = CHUNKED + chunked(events(text(""), text("a"), text("b"), USAGE))
    async with Server(raw_response) as (client, server):
        response = await client.generate(PROMPT, 2)
    assert (len(response.times), response.prompt_tokens, response.completion_tokens, response.cached_tokens) == (
        2,
        3,
        2,
        0,
    )
    assert 0 < response.ttft_s < 10
    assert len(response.gaps_s) == 1
    head, _, body = server.request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret" in head
    sent = json.loads(body)
    assert (sent["max_tokens"], sent["temperature"], sent["ignore_eos"], sent["stream"]) == (2, 0, True, True)


async def test_a_stream_that_closes_without_done_is_complete_if_it_reported_its_usage():
    async with Server(PLAIN + "".join(events(text("a"), USAGE, done=False)).encode()) as (client, _):
        assert (await client.generate(PROMPT, 2)).completion_tokens == 2


@pytest.mark.parametrize(
    ("raw_response", "sentence"),
    [
        (b'HTTP/1.1 404 Not Found\r\n\r\n{"error": "no such model"}', "status 404: .*no such model"),
        (PLAIN + b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (PLAIN, "status 200"),
        (CHUNKED + b"zz\r\n", "ValueError"),
        (PLAIN + b"data: {nonsense\n\n", "DecodeError"),
    ],
)
async def test_the_error_for_a_failed_response_has_the_message_of_the_server(raw_response, sentence):
    async with Server(raw_response) as (client, _):
        with pytest.raises(TargetError, match=f"(?s)peer cannot be measured.*{sentence}"):
            await client.generate(PROMPT, 2)


async def test_a_server_that_refuses_connections_cannot_be_measured():
    with pytest.raises(TargetError, match="cannot be measured"):
        await ChatClient("peer", "http://127.0.0.1:9/v1", "m").generate(PROMPT, 1)
