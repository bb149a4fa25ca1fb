"""Streams: every event, in order, numbered, of OpenAI's types, and enough for the official client's helper."""

import openai
import pytest

from cupola.errors import WorkerDiedError
from cupola.frontend import TokenLogprob, TurnFinished, TurnText, Usage
from server.openai.responses.wire import CALL, WEATHER, Sum, check_response, events_of

pytestmark = pytest.mark.anyio

BEGIN = ["response.created", "response.in_progress"]
TEXT = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
THOUGHT = [kind.replace("output_text", "reasoning_text") for kind in TEXT]
CALLED = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]


def kinds(events):
    """Return the types of events, the repeated ones once."""
    types = [event["type"] for event in events]
    return [kind for before, kind in zip([None, *types], types, strict=False) if kind != before]


async def test_text_comes_with_all_its_events_in_order(http):
    events = await events_of(http, input="Hello")
    assert kinds(events) == [*BEGIN, *TEXT, "response.completed"]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert deltas == ["Hello", ", ", "world"]
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    final = events[-1]["response"]
    assert final["status"] == "completed"
    [done] = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert final["output"] == [done]
    assert final["usage"]["total_tokens"] == 14
    assert {event["item_id"] for event in events if "item_id" in event} == {done["id"]}


async def test_a_streamed_response_is_the_same_as_a_whole_one_but_for_its_ids(http):
    def plain(response):
        changing = {"id", "created_at", "completed_at", "output"}
        kept = {key: value for key, value in response.items() if key not in changing}
        return kept, [{**item, "id": None} for item in response["output"]]

    whole = (await http.post("/v1/responses", json={"model": "tiny", "input": "Hello"})).json()
    streamed = (await events_of(http, input="Hello"))[-1]["response"]
    assert plain(streamed) == plain(whole)


async def test_thoughts_and_text_and_calls_follow_each_other_as_items(http, thinking):
    thinking.script = ("<think>", "Hm, ", "well.", "</think>", "I look.", CALL, CALL)
    events = await events_of(http, input="Weather?", tools=[WEATHER])
    assert kinds(events) == [*BEGIN, *THOUGHT, *TEXT, *CALLED, *CALLED, "response.completed"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == [0, 1, 2, 3]
    assert [event["item"]["type"] for event in added] == ["reasoning", "message", "function_call", "function_call"]
    assert all(event["item"]["status"] == "in_progress" for event in added)
    output = events[-1]["response"]["output"]
    assert [item["status"] for item in output] == ["completed"] * 4
    assert [item["id"] for item in output] == [event["item"]["id"] for event in added]
    pieces = {}
    for event in events:
        if event["type"] == "response.function_call_arguments.delta":
            pieces.setdefault(event["item_id"], []).append(event["delta"])
    assert {key: "".join(parts) for key, parts in pieces.items()} == {
        item["id"]: item["arguments"] for item in output[2:]
    }


async def test_a_stream_at_the_limit_of_tokens_ends_incomplete(http, engine):
    engine.finish = TurnFinished(1, "length", Usage(11, 3))
    events = await events_of(http, input="Hello")
    assert kinds(events) == [*BEGIN, *TEXT, "response.incomplete"]
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-2]["item"]["status"] == "incomplete"


async def test_an_empty_stream_has_an_empty_message(http, engine):
    engine.script = ()
    events = await events_of(http, input="Hello")
    assert kinds(events) == [*BEGIN, *[kind for kind in TEXT if "delta" not in kind], "response.completed"]


async def test_a_stream_that_breaks_off_says_why_and_fails(http, engine):
    engine.script = ("Hel", WorkerDiedError(model="tiny", detail="signal 9"))
    events = await events_of(http, input="Hello")
    assert kinds(events) == [*BEGIN, *TEXT, "error", "response.failed"]
    error, last = events[-2:]
    assert error["code"] == "worker_died"
    assert "ended unexpectedly" in error["message"]
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": error["message"]}
    assert last["response"]["output"][0]["content"][0]["text"] == "Hel"
    assert engine.running == 0


async def test_a_crash_in_mid_stream_tells_no_secrets(http, engine, caplog):
    engine.script = ("Hel", RuntimeError("/home/me/secret"))
    events = await events_of(http, input="Hello")
    assert "secret" not in str(events)
    assert events[-1]["type"] == "response.failed"
    assert "secret" in caplog.text


async def test_a_streamed_response_is_stored_when_its_last_event_is_there(client, http):
    events = await events_of(http, input="Hello")
    stored = await http.get(f"/v1/responses/{events[-1]['response']['id']}")
    assert stored.json() == events[-1]["response"]
    check_response(stored.json())


async def test_the_clients_own_helper_puts_a_response_together(client, thinking):
    thinking.script = ("<think>Hm.</think>", "I look.", CALL)
    async with client.responses.stream(model="tiny", input="Weather?", tools=[WEATHER]) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert types[-1] == "response.completed"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.output_text == "I look."


async def test_the_clients_own_helper_parses_into_the_clients_own_type(client, engine):
    engine.script = ('{"tot', 'al": 4}')
    async with client.responses.stream(model="tiny", input="2+2?", text_format=Sum) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == Sum(total=4)


def scripted_logprobs():
    top = ((b"Hi", -0.5), (b"\xc3", -1.5))
    return (
        TurnText(1, "Hi", 1, (TokenLogprob(b"Hi", -0.5, top),)),
        TurnText(1, "", 1, (TokenLogprob(b"\xc3", -1.0, top),)),
        TurnText(1, "é", 1, (TokenLogprob(b"\xa9", -2.0, top),)),
    )


async def test_log_probabilities_come_with_the_text_when_they_are_included(client, http, engine):
    engine.script = scripted_logprobs()
    include = ["message.output_text.logprobs"]
    reply = await client.responses.create(model="tiny", input="Hello", include=include, top_logprobs=2)
    assert engine.requests[-1].top_logprobs == 2
    logprobs = reply.output[0].content[0].logprobs
    assert [bytes(one.bytes) for one in logprobs] == [b"Hi", b"\xc3", b"\xa9"]
    assert [(one.token, one.logprob) for one in logprobs[0].top_logprobs] == [("Hi", -0.5), ("\ufffd", -1.5)]
    events = await events_of(http, input="Hello", include=include, top_logprobs=2)
    told = [one for event in events if event["type"] == "response.output_text.delta" for one in event["logprobs"]]
    assert [one["logprob"] for one in told] == [-0.5, -1.0, -2.0]
    assert (await client.responses.retrieve(reply.id, include=include)).output == reply.output


async def test_without_log_probabilities_none_are_asked_for(client, engine):
    await client.responses.create(model="tiny", input="Hello")
    assert engine.requests[-1].top_logprobs is None


async def test_a_stream_names_what_is_wrong_before_it_begins(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.responses.create(model="gpt-4", input="Hello", stream=True)
    assert caught.value.code == "model_not_found"
