"""The formats of function calls, detected from chat templates, the most specific format first.

A plugin adds its own format in front: `OpenAIFrontend(tool_formats=(MyFormat(), *TOOL_FORMATS))`.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct

from cupola.frontend import ToolCall
from cupola_server.openai.tools.call_parser import CallParser, JsonCallParser

_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")


class FunctionTool(Struct, frozen=True):
    """A function that the model may call.

    Attributes:
        name: The function's name.
        description: Its description for the model.
        parameters: JSON schema of the arguments; None allows any.
        strict: Whether a grammar enforces the schema.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False


class NamedFunction(Struct, frozen=True):
    """A tool choice that requires a call of this function."""

    name: str


class ToolFormat(ABC):
    """The format in which a family of models writes function calls.

    Used in the service process. All methods are fast and have no side effects.

    Attributes:
        name: Name for display.
        arguments: The key of the arguments in a call.
        special_tokens: Whether the markers are special tokens, which decoding skips unless they are requested.
    """

    name: str = ""
    arguments: str = "arguments"
    special_tokens: bool = False

    @abstractmethod
    def detects(self, template: str) -> bool:
        """Whether a model with this Jinja chat template uses the format."""

    @abstractmethod
    def parser(self, names: Collection[str]) -> CallParser:
        """Create a parser for one answer. `names` are the functions that the model may call."""

    @abstractmethod
    def write(self, calls: Sequence[ToolCall]) -> str:
        """Write calls in the model's format, for templates that do not render calls."""

    def marks(self) -> tuple[str, str] | None:
        """Return the text before and after each call in a grammar; None if calls are plain JSON."""
        return None

    def instructions(self, tools: Sequence[FunctionTool]) -> str:
        """Write instructions for models whose template does not describe tools."""
        listing = "\n".join(_describe(tool) for tool in tools)
        example = ToolCall("", "function-name", '{"argument-name": "value"}')
        return (
            f"You can call functions to help with the user's request. These are the functions, each with a JSON schema "
            f"of its arguments:\n{listing}\n\nTo call one, answer with its name and its arguments in exactly this "
            f"form, once per call:\n{self.write([example])}\nCall a function only if it helps; otherwise answer "
            f"in plain text. The results are then given to you between <tool_response> and </tool_response>."
        )

    def call_id(self, wanted: str = "") -> str:
        """Create an id for a call, or convert an existing one to the form that the model's template requires."""
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
        """Check for the signs of the format."""
        return any(sign in template for sign in self.signs)

    def parser(self, names: Collection[str]) -> CallParser:
        """Create a parser for one answer."""
        return JsonCallParser(self.openings, self.closing, names if self.bare else None)

    def write(self, calls: Sequence[ToolCall]) -> str:
        """Write calls in the model's format."""
        objects = [self._object(call) for call in calls]
        opening = self.openings[0] if self.openings else ""
        if self.listed:
            return f"{opening}[{', '.join(objects)}]{self.closing}"
        if not self.closing:
            return "; ".join(objects)
        return "\n".join(f"{opening}\n{written}\n{self.closing}" for written in objects)

    def marks(self) -> tuple[str, str] | None:
        """Return the markers if they are plain text around each call."""
        if self.special_tokens or self.listed or self.bare or not self.openings:
            return None
        return self.openings[0], self.closing

    def _object(self, call: ToolCall) -> str:
        return f'{{"name": {_json(call.name)}, "{self.arguments}": {call.arguments or "{}"}}}'


class MistralFormat(JsonFormat):
    """Mistral's `[TOOL_CALLS]`, with a list or with names and arguments; the ids have nine letters or digits."""

    def parser(self, names: Collection[str]) -> CallParser:
        """Create a parser for one answer."""
        return JsonCallParser(self.openings, self.closing, names, named=True)

    def call_id(self, wanted: str = "") -> str:
        """Create an id of nine letters or digits, or derive one deterministically from an existing id."""
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
    """Return the first format that detects a template; the generic one for templates without tools."""
    if not re.search(r"\btools\b", template):
        return HERMES
    return next((known for known in formats if known.detects(template)), GENERIC)


def _describe(tool: FunctionTool) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}}
    return _json(function)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
