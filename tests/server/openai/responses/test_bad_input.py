"""Requests that are wrong, one by one: each gets a status, a field and a sentence, and never reaches the engine."""

import pytest

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "name": "f", "parameters": {}}


def said(*items):
    return {"input": [USER, *items]}


def part(**fields):
    return said({"role": "user", "content": [{"type": "input_text", "text": "x"}, fields]})


def tool(**fields):
    return {"tools": [{**TOOL, **fields}]}


WRONG = [
    # what is missing
    ({"model": ...}, "model", "missing_required_parameter", "'model' is missing."),
    ({"input": ...}, "input", "missing_required_parameter", "'input' is missing."),
    (said({"role": "user"}), "input[1].content", "missing_required_parameter", "is missing"),
    (said({"content": "x"}), "input[1].role", "missing_required_parameter", "is missing"),
    (said({"type": "function_call", "name": "f", "arguments": ""}), "input[1].call_id", None, "is missing"),
    (said({"type": "function_call_output", "output": ""}), "input[1].call_id", None, "is missing"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", None, "is missing"),
    (tool(name=...), "tools[0].name", "missing_required_parameter", "is missing"),
    (part(text="x"), "input[1].content[1].type", "missing_required_parameter", "is missing"),
    # what is unknown
    ({"temprature": 1}, "temprature", "unknown_parameter", "Unknown parameter 'temprature'."),
    ({"messages": [USER]}, "messages", "unknown_parameter", "Unknown parameter"),
    (said({**USER, "mood": 1}), "input[1].mood", "unknown_parameter", "Unknown parameter"),
    (tool(mood=1), "tools[0].mood", "unknown_parameter", "Unknown parameter"),
    ({"text": {"mood": 1}}, "text.mood", "unknown_parameter", "Unknown parameter"),
    # what has the wrong type
    ({"model": 5}, "model", "invalid_type", "expected a string"),
    ({"input": 5}, "input", "invalid_type", "expected a string or an array"),
    ({"input": ["x"]}, "input[0]", "invalid_type", "expected an object"),
    (said({"role": "user", "content": 5}), "input[1].content", "invalid_type", "expected a string or an array"),
    ({"metadata": {"a": 1}}, "metadata", "invalid_type", "a value of 'metadata'"),
    # what is out of range
    ({"input": []}, "input", "invalid_value", "at least 1 item"),
    ({"model": ""}, "model", "invalid_value", "at least 1 character"),
    ({"temperature": 2.1}, "temperature", "invalid_value", "at most 2"),
    ({"top_p": -1}, "top_p", "invalid_value", "at least 0"),
    ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value", "at least 1"),
    ({"top_logprobs": 21}, "top_logprobs", "invalid_value", "at most 20"),
    ({"metadata": {"a": "x" * 513}}, "metadata", "invalid_value", "512 characters"),
    ({"metadata": {"x" * 65: "a"}}, "metadata", "invalid_value", "64 characters"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value", "16"),
    (said({"role": "wizard", "content": "x"}), "input[1].role", "invalid_value", "'wizard' is not supported"),
    (said({"type": "web_search_call"}), "input[1].type", "invalid_value", "upported: message, function_call"),
    (said({"type": "item_reference", "id": "x"}), "input[1].type", "invalid_value", "upported: message"),
    (part(type="smell"), "input[1].content[1].type", "invalid_value", "upported: input_text"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value", "OpenAI's hosted tools are not available"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type", "invalid_value", "upported: function"),
    (tool(name="a b"), "tools[0].name", "invalid_value", "tools[0].name"),
    ({"tool_choice": {"type": "mcp"}}, "tool_choice.type", "invalid_value", "upported: function"),
    ({"tool_choice": "any"}, "tool_choice", "invalid_value", "is not supported"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "invalid_value", "json_schema"),
    ({"truncation": "some"}, "truncation", "invalid_value", "is not supported"),
    ({"include": ["everything"]}, "include[0]", "invalid_value", "is not supported"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value", "is not supported"),
    # what contradicts itself
    ({"stream_options": {}}, "stream_options", "invalid_value", "'stream': true"),
    ({"background": True, "store": False}, "background", "invalid_value", "must be stored"),
    ({"tool_choice": {"type": "function", "name": "g"}, **tool()}, "tool_choice.name", "invalid_value", "no function"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value", "no 'tools' to choose from"),
    ({"tools": [TOOL, TOOL]}, "tools[1].name", "invalid_value", "wo tools are named 'f'"),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}},
        "tool_choice.tools[0].name",
        "invalid_value",
        "no function",
    ),
    (
        said({"type": "function_call_output", "call_id": "call_1", "output": "x"}),
        "input",
        "invalid_value",
        "No function call found for the function call output with call_id 'call_1'",
    ),
    # what is known, and not possible
    ({"truncation": "auto"}, "truncation", "unsupported_value", "never truncated"),
    ({"include": ["reasoning.encrypted_content"]}, "include", "unsupported_value", "only 'message.output_text"),
    ({"include": ["file_search_call.results"]}, "include", "unsupported_value", "file_search_call"),
    ({"background": True, "stream": True}, "stream", "unsupported_value", "background"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_value", "previous_response_id"),
    ({"prompt": {"id": "x"}}, "prompt", "unsupported_value", "instructions"),
    ({"context_management": [{"type": "compaction"}]}, "context_management", "unsupported_value", "compacted"),
    ({"moderation": {"model": "x"}}, "moderation", "unsupported_value", "has no local equivalent"),
    ({"access_programs": {"cyber": "standard"}}, "access_programs", "unsupported_value", "has no local equivalent"),
    ({"image": {"context_compression": "auto"}}, "image", "unsupported_value", "only text input"),
    ({"background_options": {"completion_window": "8h"}}, "background_options", "unsupported_value", "immediately"),
    ({"prompt_cache_options": {"mode": "explicit"}}, "prompt_cache_options", "unsupported_value", "KV cache"),
    ({"prompt_cache_retention": "24h"}, "prompt_cache_retention", "unsupported_value", "memory only"),
    ({"service_tier": "flex"}, "service_tier", "unsupported_value", "one tier"),
    ({"reasoning": {"summary": "auto"}}, "reasoning.summary", "unsupported_value", "never summarised"),
    ({"reasoning": {"generate_summary": "auto"}}, "reasoning.generate_summary", "unsupported_value", "summarised"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode", "unsupported_value", "one mode"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context", "unsupported_value", "template"),
    ({"text": {"verbosity": "low"}}, "text.verbosity", "unsupported_value", "max_output_tokens"),
    (tool(defer_loading=True), "tools[0].defer_loading", "unsupported_value", "immediately"),
    (tool(allowed_callers=["programmatic"]), "tools[0].allowed_callers", "unsupported_value", "only the model calls"),
    ({"tools": [{**TOOL, "async": True}]}, "tools[0].async", "unsupported_value", "next request"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "unsupported_value",
        "never padded",
    ),
    (part(type="input_image", image_url="x"), "input[1].content[1].type", "unsupported_value", "'input_image'"),
    (part(type="input_file"), "input[1].content[1].type", "unsupported_value", "'input_file'"),
    (part(type="refusal", refusal="No"), "input[1].content[1].type", "unsupported_value", "'refusal'"),
]


@pytest.mark.parametrize(("change", "param", "code", "says"), WRONG, ids=lambda value: str(value)[:50])
async def test_a_wrong_field_is_named_in_a_sentence(http, engine, change, param, code, says):
    body = {"model": "tiny", "input": "Hello", **change}
    body = {key: value for key, value in body.items() if value is not ...}
    for described in body.get("tools", ()):
        for key in [key for key, value in described.items() if value is ...]:
            del described[key]
    reply = await http.post("/v1/responses", json=body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["code"] == (code or "missing_required_parameter")
    assert says in error["message"]
    assert error["message"].endswith(".")
    assert engine.requests == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"input": [{}' + b"]" * 5])
async def test_a_body_that_is_no_json_object_is_refused(http, body):
    reply = await http.post("/v1/responses", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/responses/resp_00000000?stream=true", "stream"),
        ("/v1/responses/resp_00000000?starting_after=3", "starting_after"),
        ("/v1/responses/resp_00000000?include_obfuscation=true", "include_obfuscation"),
        ("/v1/responses/resp_00000000?include[]=file_search_call.results", "include"),
        ("/v1/responses/resp_00000000?mood=1", "mood"),
        ("/v1/responses/resp_00000000/input_items?limit=0", "limit"),
        ("/v1/responses/resp_00000000/input_items?limit=101", "limit"),
        ("/v1/responses/resp_00000000/input_items?order=up", "order"),
        ("/v1/responses/resp_00000000/input_items?before=x", "before"),
    ],
)
async def test_a_wrong_parameter_of_the_url_is_named(http, path, param):
    reply = await http.get(path)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("id_", ["resp_00000000", "..", "%2e%2e", "a%00b", "x" * 3000, "resp_00000000.json"])
async def test_an_unknown_id_is_not_found_under_every_path(http, id_):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        reply = await http.request(method, f"/v1/responses/{id_}{path}")
        assert reply.status_code == 404
        assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_other_methods_are_told_which_ones_there_are(http):
    reply = await http.put("/v1/responses/resp_00000000", json={})
    assert reply.status_code == 405
    assert set(reply.headers["allow"].split(", ")) == {"GET", "DELETE"}
