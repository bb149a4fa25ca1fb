"""The events that `observe` hooks receive. They never contain prompts, answers or keys."""

from msgspec import Struct

from cupola.messages import FinishReason, Usage


class ModelLoaded(Struct, frozen=True, tag=True):
    """A model was loaded. `load_s` is the loading time in seconds."""

    model: str
    provider: str
    load_s: float


class ModelUnloaded(Struct, frozen=True, tag=True):
    """A model was unloaded, or its worker never became ready.

    Attributes:
        model: The model's id.
        reason: "idle", "asked", "evicted", "stopping" or "failed".
        provider: The execution provider's name; empty if loading did not finish.
    """

    model: str
    reason: str
    provider: str = ""


class TurnEnded(Struct, frozen=True, tag=True):
    """A turn ended.

    Attributes:
        model: The model's id.
        provider: The execution provider's name.
        reason: Why the answer ended; None if the turn failed.
        usage: Token counts of the turn.
        first_token_s: Seconds from the arrival of the request to the first token; None if there was none.
        total_s: Seconds from the arrival of the request to the end of the turn.
    """

    model: str
    provider: str
    reason: FinishReason | None
    usage: Usage | None
    first_token_s: float | None
    total_s: float


class DownloadEnded(Struct, frozen=True, tag=True):
    """A download ended; `ok` tells whether it succeeded."""

    model: str
    size_bytes: int
    total_s: float
    ok: bool


class RequestStarted(Struct, frozen=True, tag=True):
    """An HTTP request arrived."""

    method: str


class RequestEnded(Struct, frozen=True, tag=True):
    """An HTTP request ended, or its client disconnected.

    Attributes:
        method: The HTTP method.
        route: The path template, such as "/v1/models/{id}"; "none" for requests that reached no front-end.
        status: The status code; 499 if the client disconnected before the response started.
        total_s: Duration in seconds.
    """

    method: str
    route: str
    status: int
    total_s: float


Event = ModelLoaded | ModelUnloaded | TurnEnded | DownloadEnded | RequestStarted | RequestEnded
