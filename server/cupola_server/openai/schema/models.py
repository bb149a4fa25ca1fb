"""The models of GET /v1/models."""

from typing import Literal

from msgspec import Struct


class Model(Struct, kw_only=True):
    """A model: the fields of OpenAI's object, and those of a local model.

    Attributes:
        id: The variant's id.
        object: Always "model".
        created: When it was published, in Unix seconds; 0 if unknown.
        owned_by: The publisher.
        alias: A shorter name that requests may use.
        cached: Whether its files are on this machine.
        loaded: Whether it is in memory.
        device: "CPU", "GPU" or "NPU".
        provider: The execution provider that the variant is made for.
        context_length: The context length in tokens; null if unknown.
        max_output_tokens: The publisher's recommended maximum, in tokens; null if unknown.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    alias: str
    cached: bool
    loaded: bool
    device: str
    provider: str
    context_length: int | None
    max_output_tokens: int | None


class ModelList(Struct, kw_only=True):
    """The response of GET /v1/models."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]
