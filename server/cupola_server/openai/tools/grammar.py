"""Grammars that make a model call functions as it was told to, in Lark as llguidance reads it."""

import re
from collections.abc import Sequence

import msgspec

from cupola.errors import InvalidParameterError
from cupola.frontend import Guidance
from cupola_server.openai.tools.formats import ToolFormat
from cupola_server.openai.tools.functions import FunctionTool

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_START = re.compile(r"^start(\s*:)", re.MULTILINE)
_GRAMMAR_ERROR = re.compile(r"at (?P<line>\d+)\(\d+\): (?:failed to compile JSON schema: )?(?P<problem>.*)")
_ANY_TEXT = r"/(.|\n)*/"
_MOST_CALLS = 16  # small models never stop
_FURTHER = f'(", " item){{0,{_MOST_CALLS - 1}}} '


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
        answer: What the answer has to be if no call is required and made; None lets it be any text.
        param: The request's field, for errors.
    """
    marks = format_.marks()
    answer = None if required else answer
    start, rules = _marked(marks, required, many, answer) if marks else _bare(required, many, answer)
    lines = [f"start: {start}", *rules, *_items(tools, format_)]
    return Guidance("lark", "\n".join(lines) + "\n", param)


def _marked(marks: tuple[str, str], required: bool, many: bool, answer: Guidance | None) -> tuple[str, list[str]]:
    opening, closing = map(_literal, marks)
    ending = [f'rest: "\\n"? item "\\n"? {closing}']
    call = [f"call: {opening} rest", *ending]
    if many:
        call[0] += ' "\\n"?'
    calls = f"call{{1,{_MOST_CALLS}}}" if many else "call"
    if required:
        return calls, call
    if answer:
        return f"{calls} | answer", [*call, _answer_rule(answer)]
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
        return "calls | answer", [*calls, _answer_rule(answer)]
    return "calls | TEXT", [*calls, r"TEXT: /[^\s\[{`](.|\n)*/"]


def _items(tools: Sequence[FunctionTool], format_: ToolFormat) -> list[str]:
    rules = [f"item: {' | '.join(f'item_{i}' for i in range(len(tools)))}"]
    for i, tool in enumerate(tools):
        head = _literal(f'{{"name": "{tool.name}", "{format_.arguments}": ')
        # what llguidance cannot enforce of a schema that need not be enforced does no harm
        schema = _json({"type": "object", **(tool.parameters or {})}, lenient=not tool.strict)
        rules += [f'item_{i}: {head} arguments_{i} "}}"', f"arguments_{i}: {schema}"]
    return rules


def after_reasoning(guidance: Guidance, closing: str) -> Guidance:
    """Let reasoning come first, up to and with the marker that closes it."""
    rule = guidance.text if guidance.kind == "lark" else _answer_rule(guidance, "start")
    rest = _START.sub(r"shaped\1", rule, count=1)
    first = f"start: reasoning gap shaped\nreasoning[suffix={_literal(closing)}]: {_ANY_TEXT}\ngap: /[ \\n]{{0,4}}/\n"
    return Guidance("lark", first + rest, guidance.param)


def explained(error: InvalidParameterError, guidance: Guidance, tools: Sequence[FunctionTool]) -> InvalidParameterError:
    """Say which function's schema it is that a grammar could not be made of."""
    found = _GRAMMAR_ERROR.search(error.detail)
    lines = guidance.text.splitlines()
    rule = lines[int(found["line"]) - 1] if found and int(found["line"]) <= len(lines) else ""
    place = re.match(r"arguments_(\d+):", rule)
    if found is None or place is None:
        return error
    name = tools[int(place[1])].name
    detail = f"The parameters of the function '{name}' cannot be enforced: {found['problem']}."
    return InvalidParameterError(param=guidance.param, detail=detail)


def _answer_rule(answer: Guidance, name: str = "answer") -> str:
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
