"""What is asked of the service and how its answers read, whoever carries them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from cupola.client.wire import (
    CatalogModels,
    Download,
    DownloadRequest,
    LoadedModel,
    LoadedModels,
    LoadRequest,
    Unloaded,
    UnloadRequest,
)
from cupola.contracts import DeviceType, ModelStatus
from cupola.errors import ModelNotFoundError, ServiceReplyError

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
