"""Functions that a model may call, and its calls of them."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

FunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(Struct, kw_only=True, forbid_unknown_fields=True):
    """A function. `parameters` is a JSON schema, which the arguments conform to if `strict` says so."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionToolParam(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A function that may be called."""

    function: FunctionDefinition


class CustomToolParam(Struct, tag_field="type", tag="custom"):
    """Known, and refused: models here call functions with JSON."""


ToolParam = FunctionToolParam | CustomToolParam


class FunctionReference(Struct, forbid_unknown_fields=True):
    """The name of a function."""

    name: str


class NamedToolChoice(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """This function must be called."""

    function: FunctionReference


class AllowedTools(Struct, kw_only=True, forbid_unknown_fields=True):
    """Some of the functions."""

    mode: Literal["auto", "required"]
    tools: list[NamedToolChoice]


class AllowedToolsChoice(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    """Only some of the functions may, or must, be called."""

    allowed_tools: AllowedTools


class CustomToolChoice(Struct, tag_field="type", tag="custom"):
    """Known, and refused as custom tools are."""


ToolChoiceParam = Literal["auto", "none", "required"] | NamedToolChoice | AllowedToolsChoice | CustomToolChoice


class CalledFunction(Struct, forbid_unknown_fields=True):
    """What was called. `arguments` is JSON text, as the model wrote it."""

    name: str
    arguments: str


class MessageToolCall(Struct, kw_only=True):
    """A call, in an answer and in the message of an assistant."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
