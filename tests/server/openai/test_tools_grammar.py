"""Grammars for calls, with llguidance itself: what they let through, and that the parsers read it."""

import pytest
from llguidance import LLMatcher, LLTokenizer

from cupola.errors import InvalidParameterError
from cupola.frontend import Guidance
from cupola_server.openai.tools import FunctionTool
from cupola_server.openai.tools.formats import GENERIC, HERMES, LLAMA3, MISTRAL, PHI4
from cupola_server.openai.tools.grammar import after_reasoning, calls_grammar, schema_error

BYTES = LLTokenizer("byte")
CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string"}},
}
TOOLS = (FunctionTool("get_weather", "", CITY, strict=True), FunctionTool("f"))


def accepts(guidance, text):
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(guidance.text))
    tokens = BYTES.tokenize_str(text)
    return matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens) and matcher.is_accepting()


def call(format_, arguments='{"city": "Rome"}', name="get_weather"):
    return f'{{"name": "{name}", "{format_.arguments}": {arguments}}}'


def written(format_, *calls, many):
    if format_.marks():
        return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in calls)
    return f"[{', '.join(calls)}]" if many else calls[0]


@pytest.mark.parametrize("format_", [HERMES, MISTRAL, PHI4, LLAMA3, GENERIC], ids=lambda format_: format_.name)
@pytest.mark.parametrize("many", [True, False])
def test_a_required_call_leaves_no_other_way(format_, many):
    grammar = calls_grammar(format_, TOOLS, required=True, many=many)
    good = call(format_)
    assert accepts(grammar, written(format_, good, many=many))
    assert accepts(grammar, written(format_, call(format_, '{"anything": [1]}', "f"), many=many))
    assert not accepts(grammar, written(format_, call(format_, '{"city": 5}'), many=many))
    assert not accepts(grammar, written(format_, call(format_, name="g"), many=many))
    assert not accepts(grammar, "Hello")
    assert not accepts(grammar, "")
    assert accepts(grammar, written(format_, good, good, many=True)) == many


@pytest.mark.parametrize("format_", [HERMES, MISTRAL, PHI4, LLAMA3, GENERIC], ids=lambda format_: format_.name)
def test_strict_arguments_hold_where_text_may_come_instead_of_a_call(format_):
    grammar = calls_grammar(format_, TOOLS, required=False, many=True)
    assert accepts(grammar, "Hello <b>, how are you?")
    assert accepts(grammar, written(format_, call(format_), many=True))
    assert not accepts(grammar, written(format_, call(format_, '{"city": 5}'), many=True))


def test_text_may_come_before_calls_between_markers_and_after_them():
    grammar = calls_grammar(HERMES, TOOLS, required=False, many=True)
    good = written(HERMES, call(HERMES), many=True)
    assert accepts(grammar, f"Let me see <this>.\n{good}\n{good}\nThat is all.")
    assert not accepts(grammar, f"Let me see.\n{written(HERMES, call(HERMES, '[]'), many=True)}")
    one = calls_grammar(HERMES, TOOLS, required=False, many=False)
    assert accepts(one, f"Let me see.\n{good}")
    assert not accepts(one, f"Let me see.\n{good}\n{good}")


@pytest.mark.parametrize("format_", [HERMES, GENERIC], ids=lambda format_: format_.name)
@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize(
    ("answer", "good", "bad"),
    [
        (Guidance("json_object"), '{"q": 1}', "yes"),
        (
            Guidance("json_schema", '{"type": "object", "properties": {"q": {"type": "integer"}}}'),
            '{"q": 1}',
            '{"q": ""}',
        ),
        (Guidance("json_schema", '{"type": "integer"}'), "17", "yes"),
        (Guidance("choice", '["yes", "no \\"sir\\""]'), 'no "sir"', "maybe"),
        (Guidance("regex", "[a-c/]+"), "a/b", "d"),
    ],
)
def test_an_answer_is_a_call_or_in_the_shape_that_was_asked_for(format_, many, answer, good, bad):
    grammar = calls_grammar(format_, TOOLS, required=False, many=many, answer=answer)
    assert accepts(grammar, good)
    assert not accepts(grammar, bad)
    assert accepts(grammar, written(format_, call(format_), many=True))


@pytest.mark.parametrize(
    ("guidance", "good"),
    [
        (Guidance("json_object"), "{}"),
        (Guidance("choice", '["a"]'), "a"),
        (Guidance("regex", "[0-9]+"), "17"),
        (Guidance("lark", 'start: "x" y\ny: "z"'), "xz"),
        (calls_grammar(HERMES, TOOLS, required=True, many=True), written(HERMES, call(HERMES), many=True)),
    ],
)
def test_reasoning_may_come_before_any_shape(guidance, good):
    grammar = after_reasoning(guidance, "</think>")
    assert accepts(grammar, f"I think {{ so.\n</think>\n\n{good}")
    assert not accepts(grammar, "I think so.\n</think>\n\nHello")
    assert not accepts(grammar, good)


def test_a_schema_that_cannot_be_enforced_is_said_to_be_that_of_its_function():
    tools = (TOOLS[0], FunctionTool("g", "", {"type": "objct"}, strict=True))
    grammar = calls_grammar(GENERIC, tools, required=True, many=False)
    error = InvalidParameterError(
        param="tools", detail=LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(grammar.text))
    )
    better = schema_error(error, grammar, tools)
    assert str(better) == "The parameters of the function 'g' cannot be enforced: Invalid type: objct."
    assert better.param == "tools"


def test_what_cannot_be_enforced_of_a_schema_that_need_not_be_is_no_error():
    tools = (FunctionTool("f", "", {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}),)
    grammar = calls_grammar(GENERIC, tools, required=True, many=False)
    assert not LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(grammar.text))
