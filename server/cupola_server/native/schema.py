"""What travels between `cupola ps`, or another client, and this front-end."""

from typing import Annotated

from msgspec import Meta, Struct

_Name = Annotated[str, Meta(min_length=1)]
_Seconds = Annotated[float, Meta(ge=0)]


class LoadedModel(Struct, kw_only=True):
    """A loaded model.

    Attributes:
        session: "slots", "paged", "generator" or "embedding".
        reason: Why this kind of session runs it.
        layout: How its weights are stored; empty where nothing says so.
        provider: The execution provider that runs it.
        nodes: How many nodes of its graph each ONNX Runtime execution provider took; empty where nobody knows.
        fallback: `provider` took a smaller share than models.min_provider_share asks for.
        capacity: Turns that share a step.
        context_length: In tokens.
        threads: Compute threads; 0 where the provider does not say.
        turns: Requests that it is answering, or that wait for it.
        memory_bytes: What its worker takes now.
        load_s: How long loading took.
        pid: The worker's process id.
        pinned: It is never unloaded to make room.
        ttl_s: Idle seconds after which it is unloaded; null for never.
        expires_in_s: When that will be; null while it is answering.
    """

    id: str
    alias: str
    session: str
    reason: str
    layout: str
    provider: str
    nodes: dict[str, int]
    fallback: bool
    capacity: int
    context_length: int
    threads: int
    turns: int
    memory_bytes: int
    load_s: float
    pid: int
    pinned: bool
    ttl_s: float | None
    expires_in_s: float | None


class LoadedModels(Struct):
    """The reply to GET /cupola/ps, most recently used first."""

    models: tuple[LoadedModel, ...]


class LoadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /cupola/load. `ttl` in seconds, 0 for never; without it the setting models.ttl_s counts."""

    model: _Name
    ttl: _Seconds | None = None


class UnloadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /cupola/unload. A model that is answering is waited for, at most `wait` seconds.

    Without `wait` there is no limit. With `force` its answers end with an error at once.
    """

    model: _Name
    force: bool = False
    wait: _Seconds | None = None


class Unloaded(Struct):
    """The reply to POST /cupola/unload; false if the model was not loaded."""

    unloaded: bool
