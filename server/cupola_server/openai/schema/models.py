"""The models of GET /v1/models."""

from typing import Literal

from msgspec import Struct


class Model(Struct, kw_only=True):
    """A model, with what OpenAI's object has first and then what is good to know about a local one.

    Attributes:
        id: The variant's id, as a request may name it.
        object: Always "model".
        created: When it was published, in Unix seconds; 0 if the catalog does not say.
        owned_by: The publisher.
        alias: The shorter name that a request may use as well.
        cached: Its files are on this machine.
        loaded: It is in memory now.
        device: "CPU", "GPU" or "NPU".
        provider: The execution provider that the variant is made for.
        context_length: In tokens; null if unknown.
        max_output_tokens: The longest answer that the publisher recommends; null if unknown.
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
