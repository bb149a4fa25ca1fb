"""Grammars that constrain answers with function calls, in llguidance's dialect of Lark."""

import re
from collections.abc import Sequence

import msgspec

from cupola.errors import InvalidParameterError
from cupola.frontend import Guidance
from cupola_server.openai.tools.formats import FunctionTool, ToolFormat

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_START = re.compile(r"^start(\s*:)", re.MULTILINE)
_GRAMMAR_ERROR = re.compile(r"at (?P<line>\d+)\(\d+\): (?:failed to compile JSON schema: )?(?P<problem>.*)")
_ANY_TEXT = r"/(.|\n)*/"
_MAX_CALLS = 16  # small models would not stop otherwise
_FURTHER = f'(", " item){{0,{_MAX_CALLS - 1}}} '


def calls_grammar(
    tool_format: ToolFormat,
    tools: Sequence[FunctionTool],
    *,
    required: bool,
    many: bool,
    answer: Guidance | None = None,
    param: str = "tools",
) -> Guidance:
    """Create the grammar of an answer that may call functions.

    Args:
        tool_format: The model's format. Its markers are part of the grammar if they are plain text.
        tools: The functions that may be called. The arguments match their schemas.
        required: Whether the answer must consist of calls.
        many: Whether several calls are allowed.
        answer: The grammar of an answer without calls; None allows any text.
        param: The request's field, for error messages.
    """
    marks = tool_format.marks()
    answer = None if required else answer
    start, rules = _marked(marks, required, many, answer) if marks else _bare(required, many, answer)
    lines = [f"start: {start}", *rules, *_items(tools, tool_format)]
    return Guidance("lark", "\n".join(lines) + "\n", param)


def after_reasoning(guidance: Guidance, closing: str) -> Guidance:
    """Allow reasoning before the answer, up to and including its closing marker."""
    rule = guidance.text if guidance.kind == "lark" else _answer_rule(guidance, "start")
    rest = _START.sub(r"shaped\1", rule, count=1)
    first = f"start: reasoning gap shaped\nreasoning[suffix={_literal(closing)}]: {_ANY_TEXT}\ngap: /[ \\n]{{0,4}}/\n"
    return Guidance("lark", first + rest, guidance.param)


def schema_error(
    error: InvalidParameterError, guidance: Guidance, tools: Sequence[FunctionTool]
) -> InvalidParameterError:
    """Name the function whose schema cannot be compiled to a grammar, if the error is about one."""
    found = _GRAMMAR_ERROR.search(error.detail)
    lines = guidance.text.splitlines()
    rule = lines[int(found["line"]) - 1] if found and int(found["line"]) <= len(lines) else ""
    place = re.match(r"arguments_(\d+):", rule)
    if found is None or place is None:
        return error
    name = tools[int(place[1])].name
    detail = f"The parameters of the function '{name}' cannot be enforced: {found['problem']}."
    return InvalidParameterError(param=guidance.param, detail=detail)


def _marked(marks: tuple[str, str], required: bool, many: bool, answer: Guidance | None) -> tuple[str, list[str]]:
    opening, closing = map(_literal, marks)
    ending = [f'rest: "\\n"? item "\\n"? {closing}']
    call = [f"call: {opening} rest", *ending]
    if many:
        call[0] += ' "\\n"?'
    calls = f"call{{1,{_MAX_CALLS}}}" if many else "call"
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
    # in a list, whose bracket distinguishes calls from a JSON answer immediately
    calls = [f'calls: "[" item {_FURTHER if many else ""}"]"' if many or answer else "calls: item"]
    if required:
        return "calls", calls
    if answer:
        return "calls | answer", [*calls, _answer_rule(answer)]
    return "calls | TEXT", [*calls, r"TEXT: /[^\s\[{`](.|\n)*/"]


def _items(tools: Sequence[FunctionTool], tool_format: ToolFormat) -> list[str]:
    rules = [f"item: {' | '.join(f'item_{i}' for i in range(len(tools)))}"]
    for i, tool in enumerate(tools):
        head = _literal(f'{{"name": "{tool.name}", "{tool_format.arguments}": ')
        # without `strict`, the parts of a schema that llguidance cannot enforce are ignored
        schema = _json({"type": "object", **(tool.parameters or {})}, lenient=not tool.strict)
        rules += [f'item_{i}: {head} arguments_{i} "}}"', f"arguments_{i}: {schema}"]
    return rules


def _answer_rule(answer: Guidance, name: str = "answer") -> str:
    """Convert guidance to a rule of a grammar; not possible for whole grammars."""
    if answer.kind == "json_object":
        return f"{name}: {_json({'type': 'object'})}"
    if answer.kind == "json_schema":
        return f"{name}: {_json(msgspec.json.decode(answer.text))}"
    if answer.kind == "choice":
        return f"{name}: {' | '.join(map(_literal, msgspec.json.decode(answer.text, type=list[str])))}"
    return f"{name}: /{answer.text.replace('/', chr(92) + '/')}/"


def _json(schema: object, *, lenient: bool = False) -> str:
    """Convert a schema. Whitespace is fixed, because small models get lost in free whitespace."""
    options = {**_COMPACT, "lenient": lenient}
    known = schema if isinstance(schema, dict) else {}
    return "%json " + msgspec.json.encode({**known, "x-guidance": options}).decode()


def _literal(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _pattern(text: str) -> str:
    return re.sub(r"([^\w<>])", r"\\\1", text)
