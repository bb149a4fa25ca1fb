"""What travels between a client and the service's own front-end, under /cupola."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from cupola.contracts import ModelStatus

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
    """The body of POST /cupola/load. `ttl` in seconds, 0 for never; without it the setting models.ttl_s counts.

    `provider`, by its name or its short one, is what shall run the model; without it the service chooses.
    """

    model: _Name
    ttl: _Seconds | None = None
    provider: _Name | None = None


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


class CatalogModels(Struct):
    """The reply to GET /cupola/models, best variant of an alias first."""

    models: tuple[ModelStatus, ...]


class DownloadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /cupola/download and /cupola/downloads.

    The first waits for the end, or with `stream` tells of the progress in server-sent events; a client that leaves ends
    the download, if nobody else waits for it. The second only begins it.
    """

    model: _Name
    stream: bool = False


class Download(Struct, kw_only=True):
    """A download.

    Attributes:
        phase: What is being done, such as "download" or "import".
        done, total: How much of it, in `unit`; a total of 0 is not known.
        per_s: How much of it arrived per second lately.
        remaining_s: Estimated; null while nothing can be said.
        error: Why it failed.
    """

    id: str
    alias: str
    state: Literal["running", "done", "failed", "cancelled"]
    phase: str
    done: int
    total: int
    unit: str
    per_s: float = 0.0
    remaining_s: float | None = None
    error: str = ""


class Downloads(Struct):
    """The reply to GET /cupola/downloads: those under way, then the last ones that ended."""

    downloads: tuple[Download, ...]


class CancelRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /cupola/downloads/cancel. The name is the model's id."""

    model: _Name


class Cancelled(Struct):
    """The reply to POST /cupola/downloads/cancel; false if that model was not being downloaded."""

    cancelled: bool
