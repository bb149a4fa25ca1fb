"""Which format a template speaks, and how tools are explained to one that speaks none."""

import json

import pytest

from cupola.frontend import ToolCall
from cupola_server.openai.tools import TOOL_FORMATS, FunctionTool, ToolFormat, format_for
from cupola_server.openai.tools.formats import GENERIC, HERMES, LLAMA3, MISTRAL, PHI4


@pytest.mark.parametrize(
    ("template", "format_"),
    [
        ("{% if tools %}Write <tool_call>{...}</tool_call>{% endif %}", HERMES),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}{{ '[TOOL_CALLS]' }}", MISTRAL),
        ("{% if message['tools'] %}<|tool|>{{ message['tools'] }}<|/tool|>{% endif %}", PHI4),
        ("<|start_header_id|>{% if tools %}Environment: ipython{% endif %}", LLAMA3),
        ("{% if tools %}{{ tools | tojson }}{% endif %}", GENERIC),
        ("{% for message in messages %}<|im_start|>{% endfor %}", HERMES),
        ("", HERMES),
    ],
)
def test_a_template_shows_how_its_model_writes_calls(template, format_):
    assert format_for(template) is format_


def test_a_format_of_a_plugin_comes_before_those_it_is_put_in_front_of():
    class Shouting(ToolFormat):
        name = "shouting"

        def detects(self, template):
            return "CALL!" in template

        def parser(self, names):
            return HERMES.parser(names)

        def write(self, calls):
            return "".join(f"CALL! {call.name}({call.arguments})" for call in calls)

    shouting = Shouting()
    assert format_for("{{ tools }} CALL! <tool_call>", (shouting, *TOOL_FORMATS)) is shouting
    assert format_for("{{ tools }} <tool_call>", (shouting, *TOOL_FORMATS)) is HERMES
    assert "CALL! function-name(" in shouting.instructions([FunctionTool("f")])


def test_the_instructions_name_every_function_with_its_schema():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    text = HERMES.instructions([FunctionTool("get_weather", "Tell the weather.", schema), FunctionTool("f")])
    assert json.dumps(schema, separators=(",", ":")) in text
    assert "Tell the weather." in text
    assert '"name":"f"' in text
    assert "<tool_call>" in text


def test_ids_are_new_and_long_but_nine_characters_for_mistral():
    assert HERMES.call_id() != HERMES.call_id()
    assert HERMES.call_id("call_1") == "call_1"
    assert len(MISTRAL.call_id()) == 9
    assert MISTRAL.call_id("abcdefghi") == "abcdefghi"
    assert MISTRAL.call_id("call_1") == MISTRAL.call_id("call_1") != MISTRAL.call_id("call_2")


def test_calls_are_written_as_their_models_would():
    calls = [ToolCall("1", "f", '{"a": 1}'), ToolCall("2", "g", "")]
    assert HERMES.write(calls) == (
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
    )
    assert MISTRAL.write(calls[:1]) == '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]'
    assert LLAMA3.write(calls[:1]) == '{"name": "f", "parameters": {"a": 1}}'
