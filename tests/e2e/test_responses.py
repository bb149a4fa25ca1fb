"""Responses, whole: the real `openai` client, real HTTP, a real worker process, the real starter model, a real disk."""

import json
import stat
import sys

import openai
import pydantic
import pytest

from e2e.conftest import Service

MODEL = "smollm2-135m"
STORY = "Tell me a long story about a dragon."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"enum": [1, 2, 3]}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "responses"


@pytest.fixture(scope="module")
def service(starter_settings, tmp_path_factory, folder):
    log = tmp_path_factory.mktemp("service") / "log"
    service = Service(starter_settings, log, CUPOLA_RESPONSES_DIR=str(folder))
    yield service
    assert service.stop() == 0, log.read_text()


@pytest.fixture
def responses(service):
    return service.openai.responses


def test_a_second_turn_is_answered_as_if_the_conversation_had_been_sent_whole(service, responses):
    first = responses.create(model=MODEL, input="What is 2+2?", temperature=0, max_output_tokens=40)
    assert "4" in first.output_text
    second = responses.create(
        model=MODEL, input="And twice that?", temperature=0, max_output_tokens=30, previous_response_id=first.id
    )
    whole = service.openai.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "What is 2+2?"},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "And twice that?"},
        ],
        temperature=0,
        max_tokens=30,
    )
    assert second.output_text == whole.choices[0].message.content
    assert second.usage.input_tokens == whole.usage.prompt_tokens
    assert second.usage.total_tokens == second.usage.input_tokens + second.usage.output_tokens


def test_the_counted_tokens_are_those_that_are_used(responses):
    asked = {"model": MODEL, "input": "What is 2+2?", "instructions": "Be brief.", "tools": [WEATHER]}
    counted = responses.input_tokens.count(**asked).input_tokens
    assert counted == responses.create(**asked, max_output_tokens=1).usage.input_tokens


def test_instructions_are_not_carried_over(responses):
    def asked(**fields):
        return responses.create(model=MODEL, input="Hi", temperature=0, max_output_tokens=4, **fields)

    first = asked(instructions="You are a pirate who answers every question with a very long song about the sea.")
    bare = asked(previous_response_id=first.id)
    again = asked(previous_response_id=first.id, instructions=first.instructions)
    assert again.usage.input_tokens > bare.usage.input_tokens


def test_a_stream_has_its_events_in_order_and_the_text_of_a_whole_answer(responses):
    whole = responses.create(model=MODEL, input=STORY, temperature=0, max_output_tokens=40)
    assert whole.status == "incomplete"
    stream = responses.create(model=MODEL, input=STORY, temperature=0, max_output_tokens=40, stream=True)
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    types = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 10
    assert types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens == 40


def test_a_required_call_is_made_and_its_result_goes_back(responses):
    first = responses.create(
        model=MODEL,
        input="What is the weather in Rome?",
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_output_tokens=100,
    )
    [call] = first.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    arguments = json.loads(call.arguments)
    assert set(arguments) == {"city", "days"}
    assert arguments["days"] in (1, 2, 3)
    second = responses.create(
        model=MODEL,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny and 25 degrees."}],
        previous_response_id=first.id,
        tools=[WEATHER],
        tool_choice="none",
        temperature=0,
        max_output_tokens=40,
    )
    assert second.output_text
    assert [item.type for item in second.output] == ["message"]


def test_a_streamed_call_has_its_events_in_order(responses):
    with responses.stream(
        model=MODEL,
        input="What is the weather in Rome?",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "get_weather"},
        temperature=0,
        max_output_tokens=100,
    ) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert types[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    assert set(types[3:-3]) == {"response.function_call_arguments.delta"}
    assert set(json.loads(final.output[0].arguments)) == {"city", "days"}


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    age: int = pydantic.Field(ge=0, le=150)


def test_an_answer_is_parsed_into_the_clients_own_type(responses):
    reply = responses.parse(
        model=MODEL, input="Bob is 42 years old. Who?", text_format=Person, temperature=0, max_output_tokens=80
    )
    assert isinstance(reply.output_parsed, Person)


def test_log_probabilities_are_those_of_the_answers_tokens(responses):
    reply = responses.create(
        model=MODEL,
        input="What is 2+2?",
        temperature=0,
        max_output_tokens=8,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    [text] = reply.output[0].content
    assert b"".join(bytes(one.bytes) for one in text.logprobs).decode() == text.text
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in text.logprobs)


def test_a_background_response_is_written_and_another_cancelled(responses):
    short = responses.create(model=MODEL, input="What is 2+2?", max_output_tokens=10, background=True)
    assert short.status == "queued"
    endless = responses.create(model=MODEL, input=STORY, max_output_tokens=4000, background=True)
    assert responses.cancel(endless.id).status == "cancelled"

    while short.status in ("queued", "in_progress"):
        short = responses.retrieve(short.id)
    assert short.status in ("completed", "incomplete")
    assert short.output_text


def test_what_is_stored_survives_the_service_and_only_its_user_may_read_it(service, responses, folder, start_service):
    reply = responses.create(model=MODEL, input="What is 2+2?", temperature=0, max_output_tokens=10)
    other = start_service(CUPOLA_RESPONSES_DIR=str(folder)).openai.responses
    assert other.retrieve(reply.id) == reply
    assert [item.content[0].text for item in other.input_items.list(reply.id)] == ["What is 2+2?"]
    other.delete(reply.id)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(reply.id)
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert "Traceback" not in service.log.read_text()
