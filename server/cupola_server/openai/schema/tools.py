"""Tools, tool choices and tool calls."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

FunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(Struct, kw_only=True, forbid_unknown_fields=True):
    """A function. `parameters` is the JSON schema of its arguments, enforced if `strict` is set."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionToolParam(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A function tool."""

    function: FunctionDefinition


class CustomToolParam(Struct, tag_field="type", tag="custom"):
    """A custom tool, which is not supported."""


ToolParam = FunctionToolParam | CustomToolParam


class FunctionReference(Struct, forbid_unknown_fields=True):
    """The name of a function."""

    name: str


class NamedToolChoice(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """Requires a call of this function."""

    function: FunctionReference


class AllowedTools(Struct, kw_only=True, forbid_unknown_fields=True):
    """A subset of the tools."""

    mode: Literal["auto", "required"]
    tools: list[NamedToolChoice]


class AllowedToolsChoice(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    """Restricts calls to a subset of the tools."""

    allowed_tools: AllowedTools


class CustomToolChoice(Struct, tag_field="type", tag="custom"):
    """A custom tool, which is not supported."""


ToolChoiceParam = Literal["auto", "none", "required"] | NamedToolChoice | AllowedToolsChoice | CustomToolChoice


class CalledFunction(Struct, forbid_unknown_fields=True):
    """The called function. `arguments` is the JSON text that the model wrote."""

    name: str
    arguments: str


class MessageToolCall(Struct, kw_only=True):
    """A function call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
