"""What `observe` hooks are told. Never a prompt, an answer or a key."""

from msgspec import Struct

from cupola.messages import FinishReason, Usage


class ModelLoaded(Struct, frozen=True, tag=True):
    """A worker is ready."""

    model: str
    provider: str
    load_s: float


class ModelUnloaded(Struct, frozen=True, tag=True):
    """A worker was ended, or never became ready.

    `reason` is "idle", "asked", "evicted", "stopping" or "failed"; `provider` is empty if it was not loaded yet.
    """

    model: str
    reason: str
    provider: str = ""


class TurnEnded(Struct, frozen=True, tag=True):
    """A turn is over. `reason` is None when it failed; times in seconds, from the request's arrival."""

    model: str
    provider: str
    reason: FinishReason | None
    usage: Usage | None
    first_token_s: float | None
    total_s: float


class DownloadEnded(Struct, frozen=True, tag=True):
    """A download came to its end, well or not."""

    model: str
    size_bytes: int
    total_s: float
    ok: bool


class RequestStarted(Struct, frozen=True, tag=True):
    """A request arrived over HTTP."""

    method: str


class RequestEnded(Struct, frozen=True, tag=True):
    """A request over HTTP is over, or the client left.

    `route` is the path with its parameters unfilled, "/v1/models/{id}"; of requests that no front-end saw, "none".
    `status` is 499 when the client left before there was a reply.
    """

    method: str
    route: str
    status: int
    total_s: float


Event = ModelLoaded | ModelUnloaded | TurnEnded | DownloadEnded | RequestStarted | RequestEnded
