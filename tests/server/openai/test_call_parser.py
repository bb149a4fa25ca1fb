"""Telling calls from text, in every format, however the text is cut into pieces."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.frontend import ToolCall
from cupola_server.openai.tools import TOOL_FORMATS, CallArguments, CallOpened, JsonCallParser
from cupola_server.openai.tools.formats import GENERIC, HERMES, LLAMA3, MISTRAL, PHI4

NAMES = ("f", "get_weather")
FORMATS = pytest.mark.parametrize("format_", TOOL_FORMATS, ids=lambda format_: format_.name)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(max_size=6), json_values, max_size=3).map(json.dumps)
calls = st.lists(st.builds(ToolCall, st.just(""), st.sampled_from(NAMES), arguments), min_size=1, max_size=3)
prose = st.text(st.characters(codec="utf-8"), max_size=30)


def read(parser, text, cuts=()):
    """Feed a text in pieces; return the content, and names and arguments of the calls."""
    ends = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    parts = []
    for begin, end in zip([0, *ends], ends, strict=False):
        parts += parser.feed(text[begin:end])
    parts += parser.finish()
    content, found = "", []
    for part in parts:
        if isinstance(part, CallOpened):
            found.append([part.name, ""])
        elif isinstance(part, CallArguments):
            found[-1][1] += part.text
        else:
            content += part
    return content, [tuple(call) for call in found]


@FORMATS
@given(calls=calls, cuts=st.lists(st.integers(0, 500)))
def test_what_a_format_writes_it_reads_however_it_is_cut(format_, calls, cuts):
    text = format_.write(calls)
    assert read(format_.parser(NAMES), text, cuts) == ("", [(call.name, call.arguments) for call in calls])


@FORMATS
@given(text=prose | st.from_regex(r"\A[a-z<\[{`\"|_:\n ]{0,30}\Z"), cuts=st.lists(st.integers(0, 50)))
def test_text_without_a_call_comes_through_whole_however_it_is_cut(format_, text, cuts):
    assert read(format_.parser(NAMES), text, cuts) == (text, [])


@given(before=prose, calls=calls, cuts=st.lists(st.integers(0, 500)))
def test_text_before_a_call_is_content(before, calls, cuts):
    content, found = read(HERMES.parser(NAMES), f"{before}\n{HERMES.write(calls)}\n", cuts)
    assert content == before.rstrip()
    assert found == [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(
    ("format_", "text", "content", "found"),
    [
        (HERMES, '<tool_call>{"arguments": {"x": 1}, "name": "f"}</tool_call> done', " done", [("f", '{"x":1}')]),
        (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
        (HERMES, '<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
        (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
        (HERMES, '<tool_call>{"id": "1", "name": "f", "arguments": {}}</tool_call>', "", [("f", "{}")]),
        (HERMES, '<tool_call>[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]</tool_call>', "", 2),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', "", [("f", '{"a": 1}')]),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}}}</tool_call>\nWait.', "\nWait.", [("f", '{"a": 1}')]),
        (HERMES, '<tool_call>\n{"name": "f", "arguments": {}}\n', "", [("f", "{}")]),
        (MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "123456789"}]', "", [("f", '{"a": 1}')]),
        (MISTRAL, '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g{"b": 2}', "", [("f", '{"a": 1}'), ("g", '{"b": 2}')]),
        (MISTRAL, 'Yes.[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"a": {}}', "Yes.", [("f", '{"a": {}}')]),
        (PHI4, 'functools[{"name": "f", "arguments": {"a": "}"}}]', "", [("f", '{"a": "}"}')]),
        (PHI4, '[{"name": "f", "arguments": {}}]', "", [("f", "{}")]),
        (LLAMA3, '{"name": "f", "parameters": {"a": "1"}}', "", [("f", '{"a": "1"}')]),
        (LLAMA3, '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "f", "parameters": {}}', "", 2),
        (LLAMA3, '{"type": "function", "name": "f", "parameters": {"a": "1"}}', "", [("f", '{"a": "1"}')]),
        (GENERIC, '```json\n{"name": "f", "arguments": {"a": "1"}}\n```', "", [("f", '{"a": "1"}')]),
        (GENERIC, '{"type": "function", "function": {"name": "f", "arguments": {}}}', "", [("f", "{}")]),
        (GENERIC, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', "", [("unknown", "{}")]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_ways_in_which_models_differ_are_understood(format_, text, content, found, size):
    read_content, read_calls = read(format_.parser(NAMES), text, range(0, len(text), size))
    assert read_content == content
    assert read_calls == found or len(read_calls) == found


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        (HERMES, "<tool_call>I would call f.</tool_call> Shall I?"),
        (HERMES, '<tool_call>{"nom": "f"}</tool_call>'),
        (HERMES, '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f", "arguments": 5}</tool_call>'),
        (HERMES, "<tool_call>{'name': 'f'}</tool_call>"),
        (HERMES, '<tool_call>{"name": "f", "argu'),
        (HERMES, "<tool_call>"),
        (HERMES, "a < b, <b>bold</b> and <tool_c"),
        (MISTRAL, "[TOOL_CALLS] what?"),
        (LLAMA3, '{"answer": 5} is it'),
        (LLAMA3, '{"name": "Bob", "arguments": {}} is it'),
        (GENERIC, '```json\n{"x": "f"}\n```'),
        (GENERIC, "```python\nprint(1)\n```"),
        (GENERIC, "  [1, 2]"),
        (GENERIC, '{"name": "Bob", "age": 5}'),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_turns_out_to_be_no_call_is_content_and_nothing_of_it_is_lost(format_, text, size):
    assert read(format_.parser(NAMES), text, range(0, len(text), size)) == (text, [])


def test_arguments_come_as_soon_as_the_name_is_known():
    parser = HERMES.parser(NAMES)
    assert parser.feed('<tool_call>{"name": "f", "arg') == []
    assert parser.feed('uments": {"city": "Pa') == [CallOpened("f"), CallArguments("{"), CallArguments('"city": "Pa')]
    assert parser.feed('ris"') == [CallArguments('ris"')]
    assert parser.feed("}}\n</tool_call>") == [CallArguments("}")]


def test_text_comes_at_once_where_no_marker_can_begin():
    parser = HERMES.parser(NAMES)
    assert parser.feed("Hello <") == ["Hello"]
    assert parser.feed("b>") == [" <b>"]


def test_a_call_that_is_cut_off_keeps_what_there_is_of_its_arguments():
    text = '<tool_call>{"name": "f", "arguments": {"a": [1, 2'
    assert read(HERMES.parser(NAMES), text) == ("", [("f", '{"a": [1, 2')])


def test_the_beginning_of_a_further_call_is_not_left_as_text():
    text = HERMES.write([ToolCall("", "f", "{}")]) + '\n<tool_call>\n{"na'
    assert read(HERMES.parser(NAMES), text) == ("", [("f", "{}")])


def test_a_long_answer_is_read_in_time_that_grows_with_its_length():
    parser = JsonCallParser(("<tool_call>",), "</tool_call>", NAMES)
    pieces = 40_000
    assert sum(len("".join(parser.feed("\n"))) for _ in range(pieces)) == 0
    assert "".join(parser.finish()) == "\n" * pieces
