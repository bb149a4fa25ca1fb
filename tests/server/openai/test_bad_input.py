"""Requests that are wrong, one by one: each gets a status, a field and a sentence, and never reaches the engine."""

import json

import pytest

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "Hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def part(**fields):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, fields]}]}


def said(**fields):
    return {"messages": [USER, {"role": "assistant", **fields}]}


WRONG = [
    # what is missing
    ({"model": ...}, "model", "missing_required_parameter", "'model' is missing."),
    ({"messages": ...}, "messages", "missing_required_parameter", "'messages' is missing."),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", "is missing"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "is missing"),
    (said(), "messages[1].content", "missing_required_parameter", "needs 'content', 'refusal' or 'tool_calls'"),
    (
        said(content=None),
        "messages[1].content",
        "missing_required_parameter",
        "needs 'content', 'refusal' or 'tool_calls'",
    ),
    (part(type="text"), "messages[0].content[1].text", "missing_required_parameter", "is missing"),
    # what is unknown
    ({"temprature": 1}, "temprature", "unknown_parameter", "Unknown parameter 'temprature'."),
    ({"x" * 5000: 1}, "x" * 80 + "…", "unknown_parameter", "Unknown parameter"),
    (
        {"messages": [{**USER, "mood": 1}]},
        "messages[0].mood",
        "unknown_parameter",
        "Unknown parameter 'messages[0].mood'",
    ),
    (part(type="text", text="x", a=1), "messages[0].content[1].a", "unknown_parameter", "Unknown parameter"),
    ({"stream": True, "stream_options": {"a": 1}}, "stream_options.a", "unknown_parameter", "Unknown parameter"),
    # what has the wrong type
    ({"model": 5}, "model", "invalid_type", "Invalid type for 'model': expected a string, but got an integer."),
    ({"messages": USER}, "messages", "invalid_type", "expected an array, but got an object."),
    ({"messages": ["hi"]}, "messages[0]", "invalid_type", "expected an object, but got a string."),
    ({"messages": [{"role": 5, "content": "x"}]}, "messages[0].role", "invalid_type", "expected a string."),
    (
        {"messages": [{"role": "user", "content": 5}]},
        "messages[0].content",
        "invalid_type",
        "Invalid type for 'messages[0].content': expected a string or an array, but got an integer.",
    ),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type", "got null"),
    ({"temperature": "hot"}, "temperature", "invalid_type", "expected a number or null, but got a string."),
    ({"temperature": True}, "temperature", "invalid_type", "but got a boolean."),
    ({"max_tokens": "5"}, "max_tokens", "invalid_type", "expected an integer or null, but got a string."),
    ({"max_tokens": 2.5}, "max_tokens", "invalid_type", "got a decimal number"),
    ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean or null"),
    ({"stop": 5}, "stop", "invalid_type", "expected a string, an array or null"),
    ({"stop": ["a", 5]}, "stop[1]", "invalid_type", "expected a string, but got an integer."),
    ({"logit_bias": {"hello": 1}}, "logit_bias", "invalid_type", "a key of 'logit_bias': expected an integer"),
    ({"logit_bias": {"5": "x"}}, "logit_bias", "invalid_type", "a value of 'logit_bias': expected a number"),
    ({"n": True}, "n", "invalid_type", "expected an integer or null"),
    ({"metadata": {"a": 1}}, "metadata", "invalid_type", "a value of 'metadata': expected a string"),
    # what is out of range
    (
        {"messages": []},
        "messages",
        "invalid_value",
        "for 'messages': expected an array of at least 1 item.",
    ),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value", "at least 1 item"),
    (
        {"messages": [{"role": "wizard", "content": "x"}]},
        "messages[0].role",
        "invalid_value",
        "'wizard' is not supported",
    ),
    (part(type="smell"), "messages[0].content[1].type", "invalid_value", "'smell' is not supported; supported: text."),
    ({"model": ""}, "model", "invalid_value", "expected a string of at least 1 character."),
    ({"temperature": -0.1}, "temperature", "invalid_value", "expected a number of at least 0."),
    ({"temperature": 2.1}, "temperature", "invalid_value", "expected a number of at most 2."),
    ({"top_p": 1.5}, "top_p", "invalid_value", "at most 1"),
    ({"top_k": -2}, "top_k", "invalid_value", "at least -1"),
    ({"min_p": -1}, "min_p", "invalid_value", "at least 0"),
    ({"repetition_penalty": 5e-324}, "repetition_penalty", "invalid_value", "at least 0.01"),
    ({"presence_penalty": 3}, "presence_penalty", "invalid_value", "at most 2"),
    ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value", "at least -2"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value", "expected an integer of at least 1."),
    ({"max_completion_tokens": -5}, "max_completion_tokens", "invalid_value", "at least 1"),
    ({"max_tokens": 2**40}, "max_tokens", "invalid_value", "at most 2147483647"),
    ({"seed": 2**63}, "seed", "invalid_value", "at most 9223372036854775807"),
    ({"stop": ""}, "stop", "invalid_value", "at least 1 character"),
    ({"stop": ["a"] * 17}, "stop", "invalid_value", "at most 16 items"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "invalid_value", "a value of 'logit_bias'"),
    ({"logit_bias": {"-5": 1}}, "logit_bias", "invalid_value", "a key of 'logit_bias'"),
    ({"ttl": -1}, "ttl", "invalid_value", "at least 0"),
    ({"n": 0}, "n", "invalid_value", "at least 1"),
    ({"n": 129}, "n", "invalid_value", "at most 128"),
    ({"min_tokens": -1}, "min_tokens", "invalid_value", "at least 0"),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", "invalid_value", "at least 0"),
    ({"top_logprobs": 21}, "top_logprobs", "invalid_value", "at most 20"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value", "upported: none, minimal"),
    # what contradicts itself
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value", "'max_tokens' is 5"),
    ({"stream_options": {}}, "stream_options", "invalid_value", "'stream': true"),
    (said(content="Yes", refusal="No"), "messages[1].refusal", "unsupported_value", "either"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value", "'logprobs': true"),
    ({"max_tokens": 3, "min_tokens": 4}, "min_tokens", "invalid_value", "limited to 3 tokens"),
    # what is known, and not possible
    ({"functions": [{}]}, "functions", "unsupported_value", "use 'tools'"),
    ({"function_call": "auto"}, "function_call", "unsupported_value", "use 'tools'"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value", "only text is supported"),
    ({"audio": {"voice": "ash"}}, "audio", "unsupported_value", "only text is supported"),
    ({"prediction": {"type": "content"}}, "prediction", "unsupported_value", "predicted"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_value", "has no local equivalent"),
    ({"moderation": {"model": "x"}}, "moderation", "unsupported_value", "has no local equivalent"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_value", "does not support it"),
    ({"verbosity": "low"}, "verbosity", "unsupported_value", "max_completion_tokens"),
    ({"store": True}, "store", "unsupported_value", "not stored"),
    ({"service_tier": "flex"}, "service_tier", "unsupported_value", "one tier"),
    ({"prompt_cache_retention": "24h"}, "prompt_cache_retention", "unsupported_value", "memory only"),
    ({"prompt_cache_options": {"mode": "explicit"}}, "prompt_cache_options", "unsupported_value", "KV cache"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "unsupported_value",
        "never padded",
    ),
    ({"messages": [{"role": "function", "name": "f"}]}, "messages[0].role", "unsupported_value", "'tool'"),
    (said(content="", function_call={}), "messages[1].function_call", "unsupported_value", "use 'tools'"),
    (said(content="", audio={"id": "1"}), "messages[1].audio", "unsupported_value", "only text is supported"),
    (part(**IMAGE), "messages[0].content[1].type", "unsupported_value", "'image_url'"),
    (part(type="input_audio"), "messages[0].content[1].type", "unsupported_value", "'input_audio'"),
    (part(type="file"), "messages[0].content[1].type", "unsupported_value", "'file'"),
    (part(type="refusal", refusal="No"), "messages[0].content[1].type", "unsupported_value", "'refusal'"),
]


@pytest.mark.parametrize(("change", "param", "code", "says"), WRONG, ids=lambda value: str(value)[:50])
async def test_a_wrong_field_is_named_in_a_sentence(http, engine, change, param, code, says):
    body = {"model": "tiny", "messages": [USER], **change}
    body = {key: value for key, value in body.items() if value is not ...}
    reply = await http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert says in error["message"]
    assert error["message"].endswith(".")
    assert "$" not in error["message"]
    assert engine.requests == []


async def test_a_number_too_long_to_be_one_is_refused(http):
    body = b'{"model": "tiny", "messages": [], "seed": 1' + b"0" * 5000 + b"}"
    for name in (b"seed", b"temperature", b"tools"):
        content = body.replace(b"seed", name).replace(b"[]", json.dumps([USER]).encode())
        reply = await http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == name.decode()
        assert "out of range" in reply.json()["error"]["message"]


NOT_JSON = {
    "nothing": b"",
    "cut off": b'{"model": "tiny", "messages": [',
    "a comma too much": b'{"model": "tiny",}',
    "no number": b'{"model": "tiny", "temperature": NaN}',
    "something behind": b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}]} x',
    "a lone surrogate": b'{"model": "\\ud800"}',
    "no utf-8": b'{"model": "\xff\xfe"}',
    "utf-16": '{"model": "tiny"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"model": "tiny"}',
    "an array": b"[]",
    "a number": b"5",
    "null": b"null",
    "too deep": b'{"tools": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_a_body_that_is_no_json_is_refused(http, engine, body):
    reply = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_json")
    assert error["message"].startswith(("The body is n", "The body must be a JSON object."))
    assert error["message"].endswith(".")
    assert engine.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonlines"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=str,
)
async def test_a_body_that_is_not_announced_as_plain_json_is_refused(http, engine, headers):
    reply = await http.post("/v1/chat/completions", content=b"{}", headers=headers)
    assert reply.status_code == 415
    assert reply.json()["error"]["code"] == "unsupported_media_type"
    assert engine.requests == []


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/json"]
)
async def test_json_may_be_announced_in_every_usual_way(http, kind):
    body = json.dumps({"model": "tiny", "messages": [USER]})
    assert (await http.post("/v1/chat/completions", content=body, headers={"content-type": kind})).status_code == 200


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_a_body_beyond_the_limit_is_refused_and_the_connection_goes_on(http, engine, announced):
    body = b'{"model": "' + b"x" * (17 * 1024 * 1024) + b'"}'

    async def chunks():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for _ in range(2):
        content = body if announced else chunks()
        reply = await http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "request_too_large"
        assert "16777216" in reply.json()["error"]["message"]
    assert engine.requests == []
    assert (await http.get("/v1/models")).status_code == 200


async def test_a_long_body_below_the_limit_is_read(http, engine):
    text = "x" * (15 * 1024 * 1024)
    await http.post("/v1/chat/completions", json={"model": "tiny", "messages": [{"role": "user", "content": text}]})
    assert engine.requests[0].prompt.messages[0].content == text
