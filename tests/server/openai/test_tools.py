"""Tool calling over the wire: the official client against a scripted model."""

import json

import msgspec
import openai
import pytest
from pydantic import BaseModel

from cupola.frontend import Message, Tool, ToolCall, TurnFinished, Usage
from cupola_server.app import compose
from cupola_server.openai import OpenAIFrontend
from cupola_server.openai.tools import TOOL_FORMATS, CallArguments, CallOpened, ToolFormat
from server.fake_engine import running

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "What is the weather in Rome?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Tell it.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "get_time"}}
NAMED = {"type": "function", "function": {"name": "get_time"}}
QWEN = "{% if tools %}<tool_call>{% endif %}{% if message.tool_calls %}{% elif message.role == 'tool' %}{% endif %}"
MISTRAL = "{% if tools %}[TOOL_CALLS]{{ message.tool_calls }}{% elif message.role == 'tool' %}{% endif %}"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'


@pytest.fixture
def ask(client):
    async def ask(messages=HELLO, **fields):
        fields = {"tools": [WEATHER, TIME], **fields}
        return await client.chat.completions.create(model="tiny", messages=messages, **fields)

    return ask


def speak(engine, template):
    engine.report = msgspec.structs.replace(engine.report, template=template)


async def test_a_call_is_a_call_and_never_text(ask, engine):
    speak(engine, QWEN)
    engine.script = tuple(f"Let me see.\n{CALL}\n{CALL}")
    reply = await ask()
    [choice] = reply.choices
    assert choice.message.content == "Let me see."
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather", "get_weather"]
    assert [call.function.arguments for call in choice.message.tool_calls] == ['{"city": "Rome"}'] * 2
    assert len({call.id for call in choice.message.tool_calls}) == 2
    assert choice.finish_reason == "tool_calls"


async def test_an_answer_of_calls_alone_has_no_content(ask, engine):
    speak(engine, QWEN)
    engine.script = (CALL,)
    assert (await ask()).choices[0].message.content is None


async def test_a_call_streams_as_a_name_and_then_its_arguments_in_pieces(ask, engine):
    speak(engine, QWEN)
    engine.script = (
        "I look.",
        "\n<tool",
        "_call>\n",
        '{"name": "get_',
        'weather", "arguments":',
        ' {"city": "Ro',
        'me"}}',
        "\n</",
    )
    chunks = [chunk.choices[0] async for chunk in await ask(stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == "I look."
    deltas = [chunk.delta.tool_calls[0] for chunk in chunks if chunk.delta.tool_calls]
    assert deltas[0].function.name == "get_weather"
    assert deltas[0].id.startswith("call_")
    assert deltas[0].type == "function"
    assert all((delta.index, delta.id, delta.function.name) == (0, None, None) for delta in deltas[1:])
    assert [delta.function.arguments for delta in deltas] == ["", "{", '"city": "Ro', 'me"}']
    assert chunks[-1].finish_reason == "tool_calls"


async def test_the_clients_stream_helper_puts_calls_together(client, engine):
    speak(engine, QWEN)
    engine.script = tuple(f"Hm. {CALL}\n{CALL}")
    async with client.chat.completions.stream(model="tiny", messages=HELLO, tools=[WEATHER]) as stream:
        kinds = {event.type async for event in stream}
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Rome"}] * 2
    assert {"content.delta", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds


async def test_the_clients_parse_helper_gets_its_own_types_back(client, engine):
    class GetWeather(BaseModel):
        city: str

    speak(engine, QWEN)
    engine.script = (CALL.replace("get_weather", "GetWeather"),)
    tool = openai.pydantic_function_tool(GetWeather)
    reply = await client.chat.completions.parse(model="tiny", messages=HELLO, tools=[tool])
    assert reply.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Rome")
    assert engine.requests[0].guidance.kind == "lark"  # the helper asks for strict arguments


async def test_the_clients_parse_helper_gets_its_own_answer_back(client, engine):
    class Answer(BaseModel):
        city: str

    engine.script = ('{"city": ', '"Rome"}')
    reply = await client.chat.completions.parse(model="tiny", messages=HELLO, response_format=Answer)
    assert reply.choices[0].message.parsed == Answer(city="Rome")
    guidance = engine.requests[0].guidance
    assert (guidance.kind, guidance.param) == ("json_schema", "response_format.json_schema.schema")
    assert json.loads(guidance.text)["properties"]["city"]["type"] == "string"


async def test_a_call_that_is_cut_off_by_the_limit_says_so(ask, engine):
    speak(engine, QWEN)
    engine.script = (CALL[:-25],)
    engine.finish = TurnFinished(1, "length", Usage(11, 3))
    [choice] = (await ask()).choices
    assert choice.finish_reason == "length"
    assert (
        choice.message.tool_calls[0].function.arguments
        == '{"city"'[: len(choice.message.tool_calls[0].function.arguments)]
    )


async def test_tools_reach_a_template_that_knows_them(ask, engine):
    speak(engine, QWEN)
    await ask()
    [request] = engine.requests
    assert request.prompt.tools == (Tool("get_weather", "Tell it.", SCHEMA), Tool("get_time"))
    assert request.prompt.messages == (Message("user", HELLO[0]["content"]),)
    assert request.guidance is None
    assert not request.special_tokens


async def test_markers_that_are_special_tokens_are_asked_for_and_the_others_removed(ask, engine):
    speak(engine, MISTRAL)
    engine.script = ("[TOOL_CALLS]", '[{"name": "get_time", "arguments": {}}]', "</s>")
    message = (await ask()).choices[0].message
    assert engine.requests[0].special_tokens
    assert message.content is None
    assert message.tool_calls[0].function.name == "get_time"
    assert len(message.tool_calls[0].id) == 9


async def test_a_template_that_knows_no_tools_gets_them_explained(ask, engine):
    engine.script = (CALL,)
    reply = await ask([{"role": "system", "content": "Be kind."}, *HELLO])
    system, user = engine.requests[0].prompt.messages
    assert system.content.startswith("Be kind.\n\n")
    assert '"name":"get_weather"' in system.content
    assert user.role == "user"
    assert engine.requests[0].prompt.tools == ()
    assert reply.choices[0].message.tool_calls[0].function.name == "get_weather"


CONVERSATION = [
    *HELLO,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "Noon."}]},
]


async def test_calls_and_results_reach_a_template_that_knows_them(ask, engine):
    speak(engine, QWEN)
    await ask(CONVERSATION)
    _, assistant, *results = engine.requests[0].prompt.messages
    calls = (ToolCall("call_1", "get_weather", '{"city": "Rome"}'), ToolCall("call_2", "get_time", "{}"))
    assert assistant == Message("assistant", "", tool_calls=calls)
    assert results == [
        Message("tool", "Sunny.", tool_call_id="call_1"),
        Message("tool", "Noon.", tool_call_id="call_2"),
    ]


async def test_calls_and_results_are_written_as_text_for_a_template_that_does_not(ask, engine):
    await ask(CONVERSATION, tools=openai.omit)
    user, assistant, results = engine.requests[0].prompt.messages
    assert (user.role, assistant.role, results.role) == ("user", "assistant", "user")
    assert CALL in assistant.content
    assert results.content == ("<tool_response>\nSunny.\n</tool_response>\n<tool_response>\nNoon.\n</tool_response>")


async def test_ids_are_made_to_measure_for_a_template_that_insists(ask, engine):
    speak(engine, MISTRAL)
    await ask(CONVERSATION)
    _, assistant, first, second = engine.requests[0].prompt.messages
    assert [call.id for call in assistant.tool_calls] == [first.tool_call_id, second.tool_call_id]
    assert len(first.tool_call_id) == 9


async def test_an_answer_with_calls_can_be_sent_back_as_it_was_received(ask, client, engine):
    speak(engine, QWEN)
    engine.script = (CALL,)
    message = (await ask()).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny."}
    for sent in (message, message.model_dump()):
        await ask([*HELLO, sent, result])
        assert engine.requests[-1].prompt.messages[1].tool_calls[0].name == "get_weather"


async def test_no_tool_is_shown_or_called_if_none_may_be(ask, engine):
    speak(engine, QWEN)
    engine.script = (CALL,)
    message = (await ask(tool_choice="none")).choices[0].message
    assert message.content == CALL
    assert message.tool_calls is None
    assert engine.requests[0].prompt.tools == ()


@pytest.mark.parametrize("template", [QWEN, MISTRAL, ""])
async def test_a_required_call_is_enforced(ask, engine, template):
    speak(engine, template)
    await ask(tool_choice="required")
    guidance = engine.requests[0].guidance
    assert (guidance.kind, guidance.param) == ("lark", "tools")
    assert "get_weather" in guidance.text
    assert "get_time" in guidance.text


async def test_a_named_call_is_enforced_and_no_other_function_is_shown(ask, engine):
    speak(engine, QWEN)
    await ask(tool_choice=NAMED)
    [request] = engine.requests
    assert [tool.name for tool in request.prompt.tools] == ["get_time"]
    assert "get_weather" not in request.guidance.text


async def test_allowed_tools_are_the_only_ones(ask, engine):
    speak(engine, QWEN)
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
    await ask(tool_choice=allowed)
    assert [tool.name for tool in engine.requests[0].prompt.tools] == ["get_time"]
    assert engine.requests[0].guidance is None


async def test_one_call_at_a_time_is_enforced_when_it_is_asked_for(ask, engine):
    speak(engine, QWEN)
    await ask(parallel_tool_calls=False)
    await ask(parallel_tool_calls=True)
    one, many = engine.requests
    assert one.guidance.kind == "lark"
    assert many.guidance is None


async def test_bare_calls_that_a_grammar_enforced_are_read(ask, engine):
    speak(engine, MISTRAL)
    engine.script = tuple('[{"name": "get_time", "arguments": {"a": 1}}, {"name": "get_time", "arguments": {}}]')
    message = (await ask(tool_choice="required")).choices[0].message
    assert [call.function.arguments for call in message.tool_calls] == ['{"a": 1}', "{}"]
    assert message.content is None


async def test_a_plugins_format_is_spoken(engine):
    class ShoutParser:
        def feed(self, text):
            return [CallOpened(text.removeprefix("CALL! ")), CallArguments("{}")]

        def finish(self):
            return []

    class Shouting(ToolFormat):
        name = "shouting"

        def detects(self, template):
            return "CALL!" in template

        def parser(self, names):
            return ShoutParser()

        def write(self, calls):
            return "".join(f"CALL! {call.name}" for call in calls)

    speak(engine, "{{ tools }} CALL!")
    engine.script = ("CALL! get_time",)
    frontend = OpenAIFrontend(tool_formats=(Shouting(), *TOOL_FORMATS))
    async with running(compose([frontend], engine)) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
            reply = await client.chat.completions.create(model="tiny", messages=HELLO, tools=[TIME])
    assert reply.choices[0].message.tool_calls[0].function.name == "get_time"


def function(**fields):
    return {"tools": [{"type": "function", "function": {"name": "f", **fields}}]}


def result(tool_call_id):
    return {"messages": [*CONVERSATION, {"role": "tool", "tool_call_id": tool_call_id, "content": "x"}]}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "'function'"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "upported: function"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
        (function(name="two words"), "tools[0].function.name", "a string that matches"),
        (function(parameters=[]), "tools[0].function.parameters", "an object"),
        (function(arguments={}), "tools[0].function.arguments", "Unknown parameter"),
        ({"tools": [TIME, TIME]}, "tools[1].function.name", "Two tools are named 'get_time'"),
        ({"tool_choice": "required"}, "tool_choice", "together with 'tools'"),
        ({"tool_choice": NAMED}, "tool_choice", "together with 'tools'"),
        ({**function(), "tool_choice": NAMED}, "tool_choice.function.name", "'get_time'"),
        ({**function(), "tool_choice": "maybe"}, "tool_choice", "auto, none, required"),
        ({**function(), "tool_choice": {"type": "custom", "custom": {}}}, "tool_choice.type", "custom tools"),
        (
            {**function(), "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            "tool_choice.allowed_tools.tools",
            "is empty",
        ),
        (result("call_3"), "messages[4].tool_call_id", "matches no tool call"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "is missing"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}]},
            "messages[0].tool_calls[0].type",
            "custom tools",
        ),
        ({**function(), "guided_grammar": 'start: "x"'}, "guided_grammar", "cannot be combined with 'tools'"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_tools_is_named(http, engine, fields, param, says):
    reply = await http.post("/v1/chat/completions", json={"model": "tiny", "messages": HELLO, **fields})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert says in error["message"]
    assert engine.requests == []
