"""The bytes on the wire, as clients that are not OpenAI's own read them."""

import json

import pytest

from cupola.errors import WorkerError

pytestmark = pytest.mark.anyio

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}]}


def events_of(body: str) -> list[str]:
    """Split a stream into its events; every one of them is a single `data` line."""
    *events, end = body.split("\n\n")
    assert end == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


async def test_a_completion_has_openais_fields_in_openais_order(http):
    reply = await http.post("/v1/chat/completions", json=CHAT)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert body.pop("id").startswith("chatcmpl-")
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "tiny-generic-cpu:2",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 3,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        "system_fingerprint": None,
    }
    assert reply.text.startswith('{"id":"chatcmpl-')


async def test_a_stream_has_openais_chunks(http):
    reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    *chunks, end = events_of(reply.text)
    assert end == "[DONE]"
    first, *middle, last = map(json.loads, chunks)
    shared = {key: first[key] for key in ("id", "object", "created", "model", "system_fingerprint")}
    assert shared["object"] == "chat.completion.chunk"
    assert first == {
        **shared,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }
    for chunk in middle:
        text = chunk["choices"][0]["delta"]["content"]
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        assert chunk == {**shared, "choices": [choice]}
    assert last == {
        **shared,
        "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
    }


async def test_usage_is_null_until_a_chunk_of_its_own_at_the_end(http):
    request = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, _ = events_of((await http.post("/v1/chat/completions", json=request)).text)
    *others, last = map(json.loads, chunks)
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 14


async def test_a_failure_in_mid_stream_is_an_error_event_and_no_end_mark(http, engine):
    engine.script = ("Hel", WorkerError(detail="It burns."))
    reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert reply.status_code == 200
    error = {"message": "It burns.", "type": "server_error", "param": None, "code": "worker_failed"}
    *_, text, last = events_of(reply.text)
    assert json.loads(text)["choices"][0]["delta"]["content"] == "Hel"
    assert json.loads(last) == {"error": error}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_breaks_off_is_an_error_and_no_answer(http, engine, stream):
    engine.finish = None
    reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert "[DONE]" not in reply.text
    assert '"code":"worker_failed"' in reply.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_crash_is_told_without_its_details_and_logged_with_them(http, engine, caplog, stream):
    engine.refusal = ZeroDivisionError("secret in /home/me/models/x.onnx")
    reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert "secret" not in reply.text
    assert "ZeroDivisionError" not in reply.text
    assert "secret" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_crash_in_mid_stream_is_told_without_its_details(http, engine, caplog):
    engine.script = ("Hel", ZeroDivisionError("secret"))
    reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert json.loads(events_of(reply.text)[-1])["error"]["code"] == "internal_error"
    assert "secret" not in reply.text
    assert "secret" in caplog.text


async def test_a_model_list_has_openais_shape_and_says_more(http):
    reply = (await http.get("/v1/models")).json()
    assert reply.keys() == {"object", "data"}
    assert reply["object"] == "list"
    assert reply["data"][0] == {
        "id": "tiny-generic-cpu:2",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "Tests",
        "alias": "tiny",
        "cached": True,
        "loaded": True,
        "device": "CPU",
        "provider": "CPUExecutionProvider",
        "context_length": 2048,
        "max_output_tokens": 512,
    }


async def test_a_models_id_may_come_percent_encoded_or_not(http):
    for name in ("tiny-generic-cpu:2", "tiny-generic-cpu%3A2"):
        assert (await http.get(f"/v1/models/{name}")).json()["id"] == "tiny-generic-cpu:2"


async def test_a_head_request_gets_the_headers_alone(http):
    reply = await http.head("/v1/models")
    assert reply.status_code == 200
    assert reply.content == b""


async def test_one_connection_serves_many_requests(http):
    for _ in range(3):
        reply = await http.post("/v1/chat/completions", json=CHAT)
        assert "connection" not in reply.headers


async def test_a_path_nobody_knows_is_not_found(http):
    for method, path in (("GET", "/v1/nothing"), ("POST", "/v1/chat/completions/"), ("POST", "/v2/x"), ("GET", "/v1")):
        reply = await http.request(method, path)
        assert reply.status_code == 404
        error = reply.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["code"] == "unknown_url"
        assert f"{method} {path}" in error["message"]


async def test_a_method_that_a_path_lacks_is_refused_with_those_it_has(http):
    for method, path, allow in (("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/models/tiny", "GET")):
        reply = await http.request(method, path)
        assert reply.status_code == 405
        assert reply.headers["allow"] == allow
        assert reply.json()["error"]["code"] == "method_not_allowed"
