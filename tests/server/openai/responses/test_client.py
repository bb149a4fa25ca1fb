"""The official client, unchanged, against a real server: whole responses and what is stored of them."""

import openai
import pytest
from msgspec.structs import replace

from cupola.errors import ContextLengthExceededError, QueueFullError, WorkerDiedError
from cupola.frontend import TurnFinished, Usage
from server.openai.responses.wire import CALL, WEATHER, Sum, check_response

pytestmark = pytest.mark.anyio


async def test_a_text_is_answered_in_one_piece(client, engine):
    reply = await client.responses.create(model="tiny", input="Say hello.", temperature=0, max_output_tokens=5)
    assert reply.output_text == "Hello, world"
    assert reply.object == "response"
    assert reply.status == "completed"
    assert reply.model == "tiny-generic-cpu:2"
    assert reply.temperature == 0
    assert reply.max_output_tokens == 5
    assert reply.completed_at >= reply.created_at
    assert reply.error is None
    assert reply.incomplete_details is None
    [request] = engine.requests
    assert [(message.role, message.content) for message in request.prompt.messages] == [("user", "Say hello.")]
    assert request.sampling.temperature == 0
    assert request.max_tokens == 5
    assert engine.running == 0


async def test_the_reply_has_openais_fields_and_types(http):
    reply = await http.post("/v1/responses", json={"model": "tiny", "input": "Hello"})
    assert reply.status_code == 200
    check_response(reply.json())


async def test_usage_tells_what_was_cached(client):
    usage = (await client.responses.create(model="tiny", input="Hello")).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 3, 14)
    assert usage.input_tokens_details.cached_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens == 0


async def test_what_was_asked_for_is_said_again(client):
    asked = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "top_p": 0.5,
        "user": "me",
        "prompt_cache_key": "key",
        "safety_identifier": "safe",
        "max_tool_calls": 3,
        "parallel_tool_calls": False,
        "tool_choice": "none",
    }
    reply = await client.responses.create(model="tiny", input="Hello", tools=[WEATHER], **asked)
    for name, value in asked.items():
        assert getattr(reply, name) == value
    assert reply.tools[0].to_dict() == WEATHER
    assert reply.text.format.type == "text"
    assert reply.truncation == "disabled"


async def test_an_answer_at_the_limit_of_tokens_is_incomplete(client, engine):
    engine.finish = TurnFinished(1, "length", Usage(11, 3))
    reply = await client.responses.create(model="tiny", input="Hello")
    assert reply.status == "incomplete"
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert reply.output[0].status == "incomplete"
    assert reply.output_text == "Hello, world"


async def test_an_empty_answer_is_an_empty_message(client, engine):
    engine.script = ()
    reply = await client.responses.create(model="tiny", input="Hello")
    assert reply.output_text == ""
    assert reply.output[0].type == "message"


async def test_a_conversation_goes_on_without_the_earlier_instructions(client, engine):
    first = await client.responses.create(model="tiny", input="One", instructions="Be brief.")
    second = await client.responses.create(
        model="tiny", input="Two", instructions="Be long.", previous_response_id=first.id
    )
    third = await client.responses.create(model="tiny", input="Three", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    roles = [[(message.role, message.content) for message in r.prompt.messages] for r in engine.requests]
    turns = [("user", "One"), ("assistant", "Hello, world"), ("user", "Two"), ("assistant", "Hello, world")]
    assert roles[0] == [("system", "Be brief."), *turns[:1]]
    assert roles[1] == [("system", "Be long."), *turns[:3]]
    assert roles[2] == [*turns, ("user", "Three")]


async def test_a_conversation_outlives_the_deletion_of_its_beginning(client, engine):
    first = await client.responses.create(model="tiny", input="One")
    second = await client.responses.create(model="tiny", input="Two", previous_response_id=first.id)
    await client.responses.delete(first.id)
    await client.responses.create(model="tiny", input="Three", previous_response_id=second.id)
    assert len(engine.requests[-1].prompt.messages) == 5


async def test_going_on_from_an_unknown_response_is_refused_by_name(client, engine):
    with pytest.raises(openai.BadRequestError, match="Previous response with id 'resp_0123456789' not found") as caught:
        await client.responses.create(model="tiny", input="Hello", previous_response_id="resp_0123456789")
    assert caught.value.param == "previous_response_id"
    assert caught.value.code == "previous_response_not_found"
    assert engine.requests == []


async def test_a_stored_response_is_found_as_it_was(client):
    reply = await client.responses.create(model="tiny", input="Hello", metadata={"a": "b"})
    assert await client.responses.retrieve(reply.id) == reply


async def test_a_response_that_is_not_to_be_stored_is_not(client, tmp_path):
    reply = await client.responses.create(model="tiny", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(reply.id)
    assert not (tmp_path / "responses").exists()


async def test_a_deleted_response_is_gone(client, http):
    reply = await client.responses.create(model="tiny", input="Hello")
    deleted = await http.delete(f"/v1/responses/{reply.id}")
    assert deleted.json() == {"id": reply.id, "object": "response", "deleted": True}
    for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{reply.id}' not found"):
            await call(reply.id)


async def test_input_items_come_in_pages_and_either_order(client):
    said = [{"role": "user", "content": f"Message {number}"} for number in range(5)]
    reply = await client.responses.create(model="tiny", input=said)
    asc = [item.content[0].text async for item in client.responses.input_items.list(reply.id, order="asc", limit=2)]
    assert asc == [f"Message {number}" for number in range(5)]
    desc = [item.content[0].text async for item in client.responses.input_items.list(reply.id, limit=3)]
    assert desc == asc[::-1]
    page = await client.responses.input_items.list(reply.id, order="asc", limit=2)
    assert page.has_more
    assert [page.first_id, page.last_id] == [item.id for item in page.data]


async def test_input_items_tell_the_whole_conversation(client):
    first = await client.responses.create(model="tiny", input="One")
    second = await client.responses.create(model="tiny", input="Two", previous_response_id=first.id)
    items = [item async for item in client.responses.input_items.list(second.id, order="asc")]
    assert [(item.role, item.content[0].type) for item in items] == [
        ("user", "input_text"),
        ("assistant", "output_text"),
        ("user", "input_text"),
    ]
    assert items[1].id == first.output[0].id


async def test_paging_after_an_unknown_item_is_refused(client):
    reply = await client.responses.create(model="tiny", input="Hello")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.input_items.list(reply.id, after="msg_nothing")
    assert caught.value.param == "after"


async def test_an_answer_can_be_sent_back_as_the_client_received_it(client, thinking):
    thinking.script = ("<think>Hm.</think>Well: ", CALL)
    first = await client.responses.create(model="tiny", input="Weather?", tools=[WEATHER], store=False)
    output = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "Sun"}
    asked = {"role": "user", "content": "Weather?"}
    for sent in (first.output, [item.to_dict() for item in first.output]):
        await client.responses.create(model="tiny", input=[asked, *sent, output], tools=[WEATHER])
        _, answer, result = thinking.requests[-1].prompt.messages
        assert answer.reasoning_content == "Hm."
        assert answer.content.strip() == "Well:"
        assert [(call.name, call.arguments) for call in answer.tool_calls] == [("weather", '{"city": "Rome"}')]
        assert (result.role, result.content, result.tool_call_id) == ("tool", "Sun", answer.tool_calls[0].id)


async def test_a_function_call_is_an_item_and_its_result_goes_on_from_it(client, thinking):
    thinking.script = (CALL,)
    first = await client.responses.create(model="tiny", input="Weather?", tools=[WEATHER])
    [call] = first.output
    assert (call.type, call.name, call.arguments, call.status) == (
        "function_call",
        "weather",
        '{"city": "Rome"}',
        "completed",
    )
    thinking.script = ("It shines.",)
    second = await client.responses.create(
        model="tiny",
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sun"}],
        previous_response_id=first.id,
        tools=[WEATHER],
    )
    assert second.output_text == "It shines."
    assert [message.role for message in thinking.requests[-1].prompt.messages] == ["user", "assistant", "tool"]
    types = [item.type async for item in client.responses.input_items.list(second.id, order="asc")]
    assert types == ["message", "function_call", "function_call_output"]


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        ("auto", ["weather", "time"]),
        ("required", ["weather", "time"]),
        ("none", []),
        ({"type": "function", "name": "time"}, ["time"]),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "time"}]}, ["time"]),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]}, ["time"]),
    ],
    ids=str,
)
async def test_only_the_tools_that_may_be_called_are_shown_to_the_model(http, thinking, choice, offered):
    tools = [WEATHER, {**WEATHER, "name": "time"}]
    reply = await http.post(
        "/v1/responses", json={"model": "tiny", "input": "Hi", "tools": tools, "tool_choice": choice}
    )
    response = check_response(reply.json())
    assert reply.json()["tool_choice"] == choice
    assert [tool.name for tool in response.tools] == ["weather", "time"]
    assert [tool.name for tool in thinking.requests[-1].prompt.tools] == offered


async def test_thoughts_are_an_item_before_the_answer_and_counted(client, thinking):
    thinking.script = ("<think>", "Let me ", "see.", "</think>", "Four.")
    reply = await client.responses.create(model="tiny", input="2+2?")
    thought, message = reply.output
    assert thought.type == "reasoning"
    assert thought.summary == []
    assert [(part.type, part.text) for part in thought.content] == [("reasoning_text", "Let me see.")]
    assert message.content[0].text == reply.output_text == "Four."
    assert reply.usage.output_tokens_details.reasoning_tokens == len("Let me see.")


async def test_effort_reaches_the_template_and_is_refused_where_there_is_none(client, thinking):
    reply = await client.responses.create(model="tiny", input="Hi", reasoning={"effort": "none"})
    assert thinking.requests[-1].prompt.template_options == {"enable_thinking": False}
    assert reply.reasoning.effort == "none"
    thinking.report = replace(thinking.report, template="{{ messages }}")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="tiny", input="Hi", reasoning={"effort": "high"})
    assert caught.value.param == "reasoning.effort"


async def test_parse_returns_an_object_of_the_clients_own_type(client, engine):
    engine.script = ('{"total"', ": 4}")
    reply = await client.responses.parse(model="tiny", input="2+2?", text_format=Sum)
    assert reply.output_parsed == Sum(total=4)
    guidance = engine.requests[-1].guidance
    assert guidance.kind == "json_schema"
    assert '"total"' in guidance.text
    assert reply.text.format.name == "Sum"
    assert reply.text.format.schema_["required"] == ["total"]


async def test_a_json_object_can_be_asked_for(client, engine):
    await client.responses.create(model="tiny", input="2+2?", text={"format": {"type": "json_object"}})
    assert engine.requests[-1].guidance.kind == "json_object"


async def test_a_prompt_beyond_the_context_is_refused_in_the_words_of_this_endpoint(client, engine):
    engine.refusal = ContextLengthExceededError(context_length=2048, prompt_tokens=2000, completion_tokens=100)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="tiny", input="Hello")
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "input"
    assert "max_output_tokens" in caught.value.body["message"]


@pytest.mark.parametrize(
    ("error", "raised", "code"),
    [
        (QueueFullError(model="tiny", limit=4), openai.RateLimitError, "queue_full"),
        (WorkerDiedError(model="tiny", detail="signal 9"), openai.InternalServerError, "worker_died"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_answer_has_its_status(client, engine, error, raised, code, stream, tmp_path):
    engine.refusal = error
    with pytest.raises(raised) as caught:
        await client.responses.create(model="tiny", input="Hello", stream=stream)
    assert caught.value.code == code
    assert list((tmp_path / "responses").iterdir()) == []


async def test_an_answer_that_breaks_off_is_an_error_and_not_stored(client, engine, tmp_path):
    engine.script = ("Hel", WorkerDiedError(model="tiny", detail="signal 9"))
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model="tiny", input="Hello")
    assert list((tmp_path / "responses").iterdir()) == []
    assert engine.running == 0


async def test_the_tokens_of_a_prompt_are_counted_without_asking_the_model(client, engine):
    first = await client.responses.create(model="tiny", input="One")
    asked = {"input": [{"role": "user", "content": "Two"}], "previous_response_id": first.id}
    counted = await client.responses.input_tokens.count(model="tiny", instructions="Be brief.", **asked)
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == len("<system>Be brief.<user>One<assistant>Hello, world<user>Two<assistant>")
    assert len(engine.requests) == 1
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.input_tokens.count(model="tiny", truncation="auto", **asked)
    assert caught.value.param == "truncation"
    with pytest.raises(openai.BadRequestError, match="describe one in 'instructions'") as caught:
        await client.responses.input_tokens.count(model="tiny", personality="friendly", **asked)
    assert caught.value.param == "personality"
