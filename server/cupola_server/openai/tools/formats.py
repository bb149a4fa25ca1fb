"""The formats in which models write calls: a table, from the most telling sign in a chat template to the least.

A plugin adds its own in front: `OpenAIFrontend(tool_formats=(MyFormat(), *TOOL_FORMATS))`.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from cupola.frontend import ToolCall
from cupola_server.openai.tools.functions import FunctionTool
from cupola_server.openai.tools.parsing import CallParser, JsonCallParser

_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")


class ToolFormat(ABC):
    """How one family of models writes calls. Lives in the service process; every method is quick and pure.

    Attributes:
        name: For people.
        arguments: The key of a call's arguments.
        special_tokens: Its markers are special tokens, which must be asked for to be seen.
    """

    name: str = ""
    arguments: str = "arguments"
    special_tokens: bool = False

    @abstractmethod
    def detects(self, template: str) -> bool:
        """Whether a model with this chat template, in Jinja, writes calls this way."""

    @abstractmethod
    def parser(self, names: Collection[str]) -> CallParser:
        """Make a parser for one answer, to whose model the functions of these names were offered."""

    @abstractmethod
    def write(self, calls: Sequence[ToolCall]) -> str:
        """Write calls as the model would, for templates that cannot."""

    def marks(self) -> tuple[str, str] | None:
        """Return what a grammar puts before and after one call, in Lark; None if a call is bare JSON."""
        return None

    def instructions(self, tools: Sequence[FunctionTool]) -> str:
        """Explain the functions to a model whose template cannot."""
        listed = "\n".join(_described(tool) for tool in tools)
        example = ToolCall("", "function-name", '{"argument-name": "value"}')
        return (
            f"You can call functions to help with the user's request. These are the functions, each with a JSON schema "
            f"of its arguments:\n{listed}\n\nTo call one, answer with its name and its arguments in exactly this "
            f"form, once per call:\n{self.write([example])}\nCall a function only if it helps; otherwise answer "
            f"in plain text. The results are then given to you between <tool_response> and </tool_response>."
        )

    def call_id(self, wanted: str = "") -> str:
        """Return an id for a new call, or the wanted one as the model's template can take it."""
        return wanted or f"call_{uuid4().hex[:24]}"


@dataclass(frozen=True, kw_only=True)
class JsonFormat(ToolFormat):
    """Calls as JSON objects with a name and arguments, behind markers or bare.

    Attributes:
        name: For people.
        signs: Any of these in a template shows that its model writes this format.
        openings: What comes before calls, the one to write first.
        closing: What comes after them.
        bare: A call may also be the very beginning of an answer, without a marker.
        listed: The calls are one JSON list.
        arguments: The key of the arguments.
        special_tokens: The markers are special tokens.
    """

    name: str
    signs: tuple[str, ...]
    openings: tuple[str, ...] = ()
    closing: str = ""
    bare: bool = False
    listed: bool = False
    arguments: str = "arguments"
    special_tokens: bool = False

    def detects(self, template: str) -> bool:
        """Look for the format's signs."""
        return any(sign in template for sign in self.signs)

    def parser(self, names: Collection[str]) -> CallParser:
        """Make a parser for one answer."""
        return JsonCallParser(self.openings, self.closing, names if self.bare else None)

    def write(self, calls: Sequence[ToolCall]) -> str:
        """Write calls as the model would."""
        objects = [self._object(call) for call in calls]
        opening = self.openings[0] if self.openings else ""
        if self.listed:
            return f"{opening}[{', '.join(objects)}]{self.closing}"
        if not self.closing:
            return "; ".join(objects)
        return "\n".join(f"{opening}\n{written}\n{self.closing}" for written in objects)

    def marks(self) -> tuple[str, str] | None:
        """Return the markers as long as they are plain text around every single call."""
        if self.special_tokens or self.listed or self.bare or not self.openings:
            return None
        return self.openings[0], self.closing

    def _object(self, call: ToolCall) -> str:
        return f'{{"name": {_json(call.name)}, "{self.arguments}": {call.arguments or "{}"}}}'


class MistralFormat(JsonFormat):
    """Mistral's `[TOOL_CALLS]`, with a list or with names and arguments; the ids have nine letters or digits."""

    def parser(self, names: Collection[str]) -> CallParser:
        """Make a parser for one answer."""
        return JsonCallParser(self.openings, self.closing, names, named=True)

    def call_id(self, wanted: str = "") -> str:
        """Make up an id, or make one of the wanted one, always the same."""
        if _MISTRAL_ID.fullmatch(wanted):
            return wanted
        return hashlib.blake2b((wanted or uuid4().hex).encode(), digest_size=5).hexdigest()[:9]


HERMES = JsonFormat(name="hermes", signs=("<tool_call>",), openings=("<tool_call>",), closing="</tool_call>")
MISTRAL = MistralFormat(
    name="mistral",
    signs=("[TOOL_CALLS]",),
    openings=("[TOOL_CALLS]",),
    bare=True,
    listed=True,
    special_tokens=True,
)
PHI4 = JsonFormat(
    name="phi-4",
    signs=("<|tool_call|>", "<|tool|>", "functools"),
    openings=("<|tool_call|>", "functools"),
    closing="<|/tool_call|>",
    bare=True,
    listed=True,
    special_tokens=True,
)
LLAMA3 = JsonFormat(
    name="llama-3",
    signs=("<|python_tag|>", "<|start_header_id|>"),
    openings=("<|python_tag|>",),
    bare=True,
    arguments="parameters",
)
GENERIC = JsonFormat(name="generic", signs=("",), openings=("<tool_call>",), closing="</tool_call>", bare=True)

TOOL_FORMATS: tuple[ToolFormat, ...] = (HERMES, MISTRAL, PHI4, LLAMA3, GENERIC)


def format_for(template: str, formats: Sequence[ToolFormat] = TOOL_FORMATS) -> ToolFormat:
    """Choose the first format that knows a template; Hermes' for a template that knows of no tools."""
    if not re.search(r"\btools\b", template):
        return HERMES
    return next((known for known in formats if known.detects(template)), GENERIC)


def _described(tool: FunctionTool) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}}
    return _json(function)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
