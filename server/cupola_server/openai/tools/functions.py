"""The functions that a model may call."""

from typing import Any

from msgspec import Struct


class FunctionTool(Struct, frozen=True):
    """A function, as a client describes it.

    Attributes:
        name: What the model calls it by.
        description: What it does, for the model.
        parameters: JSON schema of the arguments; None leaves them free.
        strict: The arguments must conform to the schema, whatever the model would rather write.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False


class NamedFunction(Struct, frozen=True):
    """A choice of tools that leaves none: this function must be called."""

    name: str
