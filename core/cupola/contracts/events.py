"""What `observe` hooks are told. Never a prompt, an answer or a key."""

from msgspec import Struct

from cupola.messages import FinishReason, Usage


class ModelLoaded(Struct, frozen=True, tag=True):
    """A worker is ready."""

    model: str
    provider: str
    load_s: float


class ModelUnloaded(Struct, frozen=True, tag=True):
    """A worker was ended. `reason` is "idle", "asked", "stopping" or "failed"."""

    model: str
    reason: str


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


Event = ModelLoaded | ModelUnloaded | TurnEnded | DownloadEnded
