"""What travels between a client and the service's own front-end, under /cupola."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from cupola.contracts import DeviceType, ModelStatus
from cupola.errors import ModelNotFoundError, ServiceReplyError

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


T = TypeVar("T")

_DATA = "data: "


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request. The methods of clients make one each."""

    method: str
    path: str
    reply: type[T]
    body: Struct | None = None

    @property
    def content(self) -> bytes | None:
        """The body as it is sent."""
        return None if self.body is None else msgspec.json.encode(self.body)

    def read(self, status: int, content: bytes) -> T:
        """Read a whole reply.

        Raises:
            ServiceReplyError: It is an error, or no reply of Cupola.
        """
        if status >= 400:
            raise _refusal(status, content)
        try:
            return msgspec.json.decode(content, type=self.reply)
        except msgspec.MsgspecError as error:
            detail = f"What answers {self.method} {self.path} is no service of this version of Cupola: {error}."
            raise ServiceReplyError(detail=detail, status=status) from None

    def read_event(self, line: str) -> T | None:
        """Read one line of a stream; None if it holds no event.

        Raises:
            ServiceReplyError: The stream ends with an error.
        """
        if not line.startswith(_DATA):
            return None
        data = line.removeprefix(_DATA).encode()
        if data.startswith(b'{"error":{'):
            raise _refusal(500, data)
        return self.read(200, data)


CATALOG = Call("GET", "/cupola/models", CatalogModels)
LOADED = Call("GET", "/cupola/ps", LoadedModels)


def load(model: str, ttl: float | None, provider: str | None = None) -> Call[LoadedModel]:
    """Load a model."""
    return Call("POST", "/cupola/load", LoadedModel, LoadRequest(model=model, ttl=ttl, provider=provider))


def unload(model: str, *, force: bool) -> Call[Unloaded]:
    """Unload a model."""
    return Call("POST", "/cupola/unload", Unloaded, UnloadRequest(model=model, force=force))


def download(model: str) -> Call[Download]:
    """Download a model, telling of the progress."""
    return Call("POST", "/cupola/download", Download, DownloadRequest(model=model, stream=True))


def choose(models: Sequence[ModelStatus], name: str, device: DeviceType | None) -> ModelStatus:
    """Find what a name means among models that the service lists: id, id without version, or alias.

    Where an alias has several variants, one that is on this machine comes first, else the service's order counts.

    Raises:
        ModelNotFoundError: Nothing is called so, or nothing for that device.
    """
    wanted = name.strip().lower()
    fitting = [model for model in models if device in (None, model.info.device)]
    exact = [model for model in fitting if model.info.id.lower() == wanted]
    named = sorted((m for m in fitting if m.info.name.lower() == wanted), key=lambda m: -m.info.version)
    aliased = sorted((m for m in fitting if m.info.alias.lower() == wanted), key=lambda m: not m.cached)
    for found in (exact, named, aliased):
        if found:
            return found[0]
    raise ModelNotFoundError(model=name)


def newest(models: Iterable[ModelStatus], model: ModelStatus) -> ModelStatus:
    """Return the latest version of a variant."""
    versions = (each for each in models if each.info.name.lower() == model.info.name.lower())
    return max(versions, key=lambda each: each.info.version, default=model)


def _refusal(status: int, content: bytes) -> ServiceReplyError:
    try:
        error = msgspec.json.decode(content)["error"]
        return ServiceReplyError(detail=str(error["message"]), status=status, code=str(error.get("code") or ""))
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ServiceReplyError(detail=f"The service answered with status {status}.", status=status)
