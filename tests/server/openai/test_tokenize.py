"""POST /tokenize and POST /detokenize."""

import pytest

from cupola.frontend import ChatPrompt, TextPrompt

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


async def test_a_text_becomes_its_tokens_with_their_number_and_the_models_context(http, engine):
    reply = await http.post("/tokenize", json={"model": "tiny", "prompt": "héllo"})
    assert reply.json() == {"tokens": [104, 233, 108, 108, 111], "count": 5, "max_model_len": 2048}
    assert engine.prompts == [TextPrompt("héllo")]


async def test_an_empty_text_has_no_tokens(http):
    assert (await http.post("/tokenize", json={"model": "tiny", "prompt": ""})).json()["count"] == 0


async def test_a_chat_is_rendered_as_a_completion_would_be(http, engine):
    messages = [{"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}, *HELLO]
    reply = await http.post("/tokenize", json={"model": "tiny", "messages": messages})
    text = "<system>Be kind.<user>hi<assistant>"
    assert reply.json()["tokens"] == [ord(character) for character in text]
    assert reply.json()["count"] == len(text)


async def test_a_chat_may_be_rendered_without_the_beginning_of_an_answer(http):
    body = {"model": "tiny", "messages": HELLO, "add_generation_prompt": False}
    assert (await http.post("/tokenize", json=body)).json()["count"] == len("<user>hi")


async def test_tools_count(http, engine):
    plain, tools = [
        (await http.post("/tokenize", json={"model": "tiny", "messages": HELLO, **more})).json()["count"]
        for more in ({}, {"tools": [TOOL]})
    ]
    assert tools > plain
    assert all(isinstance(prompt, ChatPrompt) for prompt in engine.prompts)


async def test_defaults_may_be_spelt_out(http):
    defaults = {"add_special_tokens": True, "return_token_strs": False}
    assert (await http.post("/tokenize", json={"model": "tiny", "prompt": "a", **defaults})).status_code == 200
    defaults = {"add_generation_prompt": True, "continue_final_message": False, "chat_template_kwargs": {}, "tools": []}
    assert (await http.post("/tokenize", json={"model": "tiny", "messages": HELLO, **defaults})).status_code == 200


async def test_tokens_become_their_text(http):
    reply = await http.post("/detokenize", json={"model": "tiny", "tokens": [104, 233, 108]})
    assert reply.json() == {"prompt": "hél"}
    assert (await http.post("/detokenize", json={"model": "tiny", "tokens": []})).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"model": "tiny"}, "prompt"),
        ("/tokenize", {"model": "tiny", "prompt": "a", "messages": HELLO}, "prompt"),
        ("/tokenize", {"model": "tiny", "prompt": ["a"]}, "prompt"),
        ("/tokenize", {"model": "tiny", "messages": []}, "messages"),
        ("/tokenize", {"model": "tiny", "prompt": "a", "tools": [TOOL]}, "tools"),
        ("/tokenize", {"model": "tiny", "prompt": "a", "chat_template_kwargs": {"x": 1}}, "chat_template_kwargs"),
        ("/tokenize", {"model": "tiny", "messages": HELLO, "chat_template_kwargs": {"x": 1}}, "chat_template_kwargs.x"),
        ("/tokenize", {"model": "tiny", "prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"model": "tiny", "prompt": "a", "add_special_tokens": False}, "add_special_tokens"),
        ("/tokenize", {"model": "tiny", "messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ("/tokenize", {"model": "tiny", "prompt": "a", "return_token_strs": True}, "return_token_strs"),
        ("/tokenize", {"prompt": "a"}, "model"),
        ("/tokenize", {"model": "tiny", "text": "a"}, "text"),
        ("/detokenize", {"model": "tiny"}, "tokens"),
        ("/detokenize", {"model": "tiny", "tokens": "abc"}, "tokens"),
        ("/detokenize", {"model": "tiny", "tokens": [1, -1]}, "tokens[1]"),
        ("/detokenize", {"model": "tiny", "tokens": [2**40]}, "tokens[0]"),
        ("/detokenize", {"model": "tiny", "tokens": [2**30]}, "tokens"),
    ],
)
async def test_what_cannot_be_done_is_named(http, path, body, param):
    reply = await http.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
async def test_an_unknown_model_is_not_found_and_other_methods_do_not_answer(http, path):
    body = {"model": "other", "prompt": "a"} if path == "/tokenize" else {"model": "other", "tokens": [1]}
    assert (await http.post(path, json=body)).status_code == 404
    assert (await http.get(path)).status_code == 405
