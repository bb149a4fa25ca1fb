"""The service's own API under `/cupola`: its requests and responses, and the calls that clients make.

The front-end encodes and decodes the same types, so this page is the specification of the API.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from cupola.contracts import ModelStatus
from cupola.errors import ServiceReplyError

T = TypeVar("T")

_DATA = "data: "
_Name = Annotated[str, Meta(min_length=1)]
_Seconds = Annotated[float, Meta(ge=0)]


class LoadedModel(Struct, kw_only=True):
    """A loaded model.

    Attributes:
        id: The id of the variant, such as "smollm2-135m-instruct-generic-cpu:1".
        session: "slots", "paged", "generator" or "embedding".
        reason: Why this kind of session was chosen.
        layout: How its weights are stored; empty if unknown.
        provider: The execution provider that runs it.
        nodes: The number of graph nodes that each ONNX Runtime execution provider runs; empty if unknown.
        fallback: Whether `provider` runs a smaller share of the graph than `models.min_provider_share` requires.
        capacity: The number of turns that one step can serve.
        context_length: In tokens.
        threads: The number of compute threads; 0 if the provider does not report it.
        turns: The number of running and waiting requests.
        memory_bytes: The memory that its worker process uses now.
        load_s: How long loading took, in seconds.
        pid: The process id of its worker.
        pinned: Whether it is never unloaded to free memory for another model.
        ttl_s: Idle seconds after which it is unloaded; null for never.
        expires_in_s: Seconds until it is unloaded; null while it runs requests.
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
    """The response to `GET /cupola/ps`, most recently used first."""

    models: tuple[LoadedModel, ...]


class LoadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /cupola/load`.

    Attributes:
        model: Id, id without version, or alias.
        ttl: Idle seconds after which the model is unloaded, 0 for never; the default is the setting `models.ttl_s`.
        provider: Name or alias of the execution provider that runs it; by default the service chooses one.
    """

    model: _Name
    ttl: _Seconds | None = None
    provider: _Name | None = None


class UnloadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /cupola/unload`. The service waits for the model's running requests first.

    Attributes:
        model: Id, id without version, or alias.
        force: End running requests with an error instead of waiting.
        wait: The longest wait, in seconds; no limit by default.
    """

    model: _Name
    force: bool = False
    wait: _Seconds | None = None


class Unloaded(Struct):
    """The response to `POST /cupola/unload`. `unloaded` is false if the model was not loaded."""

    unloaded: bool


class CatalogModels(Struct):
    """The response to `GET /cupola/models`, best variant of an alias first."""

    models: tuple[ModelStatus, ...]


class DownloadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /cupola/download` and `POST /cupola/downloads`.

    `/cupola/download` responds when the download has ended. With `stream` it sends a `Download` as a server-sent event
    several times a second. If the client disconnects and no other client waits, the download is cancelled.
    `/cupola/downloads` starts the download in the background and responds at once.
    """

    model: _Name
    stream: bool = False


class Download(Struct, kw_only=True):
    """The state of a download.

    Attributes:
        phase: The current step, such as "download" or "import".
        done, total: The progress of this phase, in `unit`. A total of 0 means unknown.
        unit: "bytes", or what the phase counts.
        per_s: The rate of the last seconds, in `unit` per second.
        remaining_s: Estimated seconds until this phase ends; null if unknown.
        error: Why it failed; empty otherwise.
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
    """The response to `GET /cupola/downloads`: running downloads, then recent ones."""

    downloads: tuple[Download, ...]


class CancelRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /cupola/downloads/cancel`. `model` is the id of the variant."""

    model: _Name


class Cancelled(Struct):
    """The response to `POST /cupola/downloads/cancel`. `cancelled` is false if the model was not being downloaded."""

    cancelled: bool


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request to the service and the type of its response; see `cupola.client.connection` for sending it.

    Attributes:
        method, path: Of the HTTP request.
        response_type: The type of the response, or of each event of a stream.
        body: Encoded as JSON; None sends no body.
    """

    method: str
    path: str
    response_type: type[T]
    body: Struct | dict[str, Any] | None = None

    @property
    def content(self) -> bytes | None:
        """The encoded body."""
        return None if self.body is None else msgspec.json.encode(self.body)

    def parse_response(self, status: int, content: bytes) -> T:
        """Decode a complete response.

        Raises:
            ServiceReplyError: It reports an error, or does not have the expected type.
        """
        if status >= 400:
            raise _response_error(status, content)
        try:
            return msgspec.json.decode(content, type=self.response_type)
        except msgspec.MsgspecError as error:
            detail = f"The response to {self.method} {self.path} does not fit this version of Cupola: {error}."
            raise ServiceReplyError(detail=detail, status=status) from None

    def parse_event(self, line: str) -> T | None:
        """Decode one line of a stream of server-sent events; None if the line holds no event.

        Raises:
            ServiceReplyError: The event reports an error, or does not have the expected type.
        """
        if not line.startswith(_DATA):
            return None
        data = line.removeprefix(_DATA).encode()
        if data == b"[DONE]":  # the end of a stream of OpenAI's API
            return None
        if data.startswith(b'{"error":{'):
            raise _response_error(500, data)
        return self.parse_response(200, data)


LIST_MODELS = Call("GET", "/cupola/models", CatalogModels)
LIST_LOADED = Call("GET", "/cupola/ps", LoadedModels)
LIST_DOWNLOADS = Call("GET", "/cupola/downloads", Downloads)


def load(model: str, ttl: float | None, provider: str | None = None) -> Call[LoadedModel]:
    """Load a model."""
    return Call("POST", "/cupola/load", LoadedModel, LoadRequest(model=model, ttl=ttl, provider=provider))


def unload(model: str, *, force: bool, wait_s: float | None = None) -> Call[Unloaded]:
    """Unload a model."""
    return Call("POST", "/cupola/unload", Unloaded, UnloadRequest(model=model, force=force, wait=wait_s))


def download(model: str) -> Call[Download]:
    """Download a model and stream the progress."""
    return Call("POST", "/cupola/download", Download, DownloadRequest(model=model, stream=True))


def start_download(model: str) -> Call[Download]:
    """Start or resume a download in the background."""
    return Call("POST", "/cupola/downloads", Download, DownloadRequest(model=model))


def cancel_download(model_id: str) -> Call[Cancelled]:
    """Cancel a download."""
    return Call("POST", "/cupola/downloads/cancel", Cancelled, CancelRequest(model=model_id))


def _response_error(status: int, content: bytes) -> ServiceReplyError:
    try:
        error = msgspec.json.decode(content)["error"]
        return ServiceReplyError(detail=str(error["message"]), status=status, code=str(error.get("code") or ""))
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ServiceReplyError(detail=f"The service answered with status {status}.", status=status)
