"""What the methods of clients do: each yields the calls that it needs and is sent their replies.

So both clients share it, whether they wait or await.
"""

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from cupola.client import api
from cupola.client.api import Call, LoadedModel
from cupola.contracts import DeviceType, ModelInfo, ModelStatus
from cupola.errors import ModelNotFoundError

T = TypeVar("T")

Operation: TypeAlias = Generator[Call[Any], Any, T]


def catalog_models() -> Operation[list[ModelInfo]]:
    """List every model."""
    return [model.info for model in (yield from _models())]


def cached_models() -> Operation[list[ModelInfo]]:
    """List the models on this machine."""
    return [model.info for model in (yield from _models()) if model.cached]


def loaded_models() -> Operation[list[LoadedModel]]:
    """List what is loaded."""
    return list((yield api.LOADED).models)


def model_info(name: str, device: DeviceType | None, *, raise_on_not_found: bool) -> Operation[ModelInfo | None]:
    """Look a model up."""
    try:
        return (yield from find(name, device))
    except ModelNotFoundError:
        if raise_on_not_found:
            raise
        return None


def find(name: str, device: DeviceType | None) -> Operation[ModelInfo]:
    """Look a model up that must be there."""
    return api.choose((yield from _models()), name, device).info


def latest(name: str, device: DeviceType | None) -> Operation[ModelStatus]:
    """Look the latest version of a model up."""
    models = yield from _models()
    return api.newest(models, api.choose(models, name, device))


def is_upgradeable(name: str, device: DeviceType | None) -> Operation[bool]:
    """Tell whether the latest version is not on this machine."""
    return not (yield from latest(name, device)).cached


def load(name: str, device: DeviceType | None, ttl: float | None, provider: str | None) -> Operation[LoadedModel]:
    """Load a model."""
    return (yield api.load((yield from _named(name, device)), ttl, provider))  # type: ignore[no-any-return]


def unload(name: str, device: DeviceType | None, *, force: bool) -> Operation[bool]:
    """Unload a model."""
    return bool((yield api.unload((yield from _named(name, device)), force=force)).unloaded)


def _models() -> Operation[tuple[ModelStatus, ...]]:
    return (yield api.CATALOG).models  # type: ignore[no-any-return]


def _named(name: str, device: DeviceType | None) -> Operation[str]:
    """Leave the choice among variants to the service, unless the device is given."""
    return (yield from find(name, device)).id if device else name
