"""Grammars that make a model call functions as it was told to, in Lark as llguidance reads it."""

import re
from collections.abc import Sequence

import msgspec

from cupola import Guidance
from cupola_server.openai.tools.formats import ToolFormat
from cupola_server.openai.tools.functions import FunctionTool

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANY_TEXT = r"/(.|\n)*/"
_FURTHER = '(", " item)* '


def calls_grammar(
    format_: ToolFormat,
    tools: Sequence[FunctionTool],
    *,
    required: bool,
    many: bool,
    answer: Guidance | None = None,
    param: str = "tools",
) -> Guidance:
    """Make the grammar of an answer that calls functions.

    Args:
        format_: The model's own format. Where its markers are plain text they are part of the grammar.
        tools: The functions that may be called; the arguments conform to their schemas.
        required: There is at least one call and nothing else.
        many: There may be several calls.
        answer: What the answer has to be if there is no call; None lets it be any text.
        param: The request's field, for errors.
    """
    marks = format_.marks()
    start, rules = _marked(marks, required, many, answer) if marks else _bare(required, many, answer)
    lines = [f"start: {start}", *rules, *_items(tools, format_)]
    return Guidance("lark", "\n".join(lines) + "\n", param)


def _marked(marks: tuple[str, str], required: bool, many: bool, answer: Guidance | None) -> tuple[str, list[str]]:
    opening, closing = map(_literal, marks)
    ending = [f'rest: "\\n"? item "\\n"? {closing}']
    call = [f"call: {opening} rest", *ending]
    if many:
        call[0] += ' "\\n"?'
    calls = "call+" if many else "call"
    if required:
        return calls, call
    if answer:
        return f"{calls} | answer", [*call, answer_rule(answer)]
    text = [
        f"before[suffix={opening}]: {_ANY_TEXT}",
        "text: TEXT",
        f"TEXT: {_ANY_TEXT} & ~/(.|\\n)*{_pattern(marks[0])}(.|\\n)*/",
        *ending,
    ]
    return ("(before rest)* text" if many else "before rest | text"), text


def _bare(required: bool, many: bool, answer: Guidance | None) -> tuple[str, list[str]]:
    # in a list, because its bracket tells at once that this is no answer in JSON
    calls = [f'calls: "[" item {_FURTHER if many else ""}"]"' if many or answer else "calls: item"]
    if required:
        return "calls", calls
    if answer:
        return "calls | answer", [*calls, answer_rule(answer)]
    return "calls | TEXT", [*calls, r"TEXT: /[^\s\[{`](.|\n)*/"]


def _items(tools: Sequence[FunctionTool], format_: ToolFormat) -> list[str]:
    rules = [f"item: {' | '.join(f'item_{i}' for i in range(len(tools)))}"]
    for i, tool in enumerate(tools):
        head = _literal(f'{{"name": "{tool.name}", "{format_.arguments}": ')
        # what llguidance cannot enforce of a schema that need not be enforced does no harm
        schema = _json({"type": "object", **(tool.parameters or {})}, lenient=not tool.strict)
        rules += [f'item_{i}: {head} arguments_{i} "}}"', f"arguments_{i}: {schema}"]
    return rules


def answer_rule(answer: Guidance, name: str = "answer") -> str:
    """Write guidance as a rule of a grammar. A whole grammar cannot be one."""
    if answer.kind == "json_object":
        return f"{name}: {_json({'type': 'object'})}"
    if answer.kind == "json_schema":
        return f"{name}: {_json(msgspec.json.decode(answer.text))}"
    if answer.kind == "choice":
        return f"{name}: {' | '.join(map(_literal, msgspec.json.decode(answer.text, type=list[str])))}"
    return f"{name}: /{answer.text.replace('/', chr(92) + '/')}/"


def _json(schema: object, *, lenient: bool = False) -> str:
    """Write a schema. Without free whitespace, in which small models lose themselves."""
    options = {**_COMPACT, "lenient": lenient}
    known = schema if isinstance(schema, dict) else {}
    return "%json " + msgspec.json.encode({**known, "x-guidance": options}).decode()


def _literal(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _pattern(text: str) -> str:
    return re.sub(r"([^\w<>])", r"\\\1", text)
