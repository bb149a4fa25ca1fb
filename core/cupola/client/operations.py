"""The methods of the clients as generators: each yields the calls that it needs and receives their responses.

They do no input or output, so that `Client` and `AsyncClient` share them.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from cupola.client import api
from cupola.client.api import Call, LoadedModel
from cupola.contracts import DeviceType, ModelInfo, ModelStatus
from cupola.errors import ModelNotFoundError

T = TypeVar("T")

Operation: TypeAlias = Generator[Call[Any], Any, T]


def list_catalog_models() -> Operation[list[ModelInfo]]:
    """List every model of the catalogs."""
    return [model.info for model in (yield from _list_models())]


def list_cached_models() -> Operation[list[ModelInfo]]:
    """List the models in the cache."""
    return [model.info for model in (yield from _list_models()) if model.cached]


def list_loaded_models() -> Operation[list[LoadedModel]]:
    """List the loaded models."""
    return list((yield api.LIST_LOADED).models)


def get_model_info(name: str, device: DeviceType | None, *, raise_on_not_found: bool) -> Operation[ModelInfo | None]:
    """Return the model with a name; None if there is none and `raise_on_not_found` is false."""
    try:
        return (yield from resolve(name, device))
    except ModelNotFoundError:
        if raise_on_not_found:
            raise
        return None


def resolve(name: str, device: DeviceType | None) -> Operation[ModelInfo]:
    """Return the model with a name.

    Raises:
        ModelNotFoundError: No model has this name.
    """
    return find_model((yield from _list_models()), name, device).info


def find_latest(name: str, device: DeviceType | None) -> Operation[ModelStatus]:
    """Return the latest version of a model.

    Raises:
        ModelNotFoundError: No model has this name.
    """
    models = yield from _list_models()
    return latest_version(models, find_model(models, name, device))


def is_upgradeable(name: str, device: DeviceType | None) -> Operation[bool]:
    """Return whether the latest version of a model is missing from the cache."""
    return not (yield from find_latest(name, device)).cached


def load(name: str, device: DeviceType | None, ttl: float | None, provider: str | None) -> Operation[LoadedModel]:
    """Load a model."""
    return (yield api.load((yield from _resolve_device(name, device)), ttl, provider))  # type: ignore[no-any-return]


def unload(name: str, device: DeviceType | None, *, force: bool) -> Operation[bool]:
    """Unload a model; returns whether it was loaded."""
    return bool((yield api.unload((yield from _resolve_device(name, device)), force=force)).unloaded)


def find_model(models: Sequence[ModelStatus], name: str, device: DeviceType | None) -> ModelStatus:
    """Find a model by id, by id without version, or by alias.

    If several variants share the alias, a cached one is preferred, then the order of the service.

    Raises:
        ModelNotFoundError: No model has this name, or none of them runs on the device.
    """
    name_lower = name.strip().lower()
    candidates = [model for model in models if device in (None, model.info.device)]
    by_id = [model for model in candidates if model.info.id.lower() == name_lower]
    by_name = sorted((m for m in candidates if m.info.name.lower() == name_lower), key=lambda m: -m.info.version)
    by_alias = sorted((m for m in candidates if m.info.alias.lower() == name_lower), key=lambda m: not m.cached)
    for matches in (by_id, by_name, by_alias):
        if matches:
            return matches[0]
    raise ModelNotFoundError(model=name)


def latest_version(models: Iterable[ModelStatus], model: ModelStatus) -> ModelStatus:
    """Return the latest version of a variant."""
    versions = (other for other in models if other.info.name.lower() == model.info.name.lower())
    return max(versions, key=lambda version: version.info.version, default=model)


def _list_models() -> Operation[tuple[ModelStatus, ...]]:
    return (yield api.LIST_MODELS).models  # type: ignore[no-any-return]


def _resolve_device(name: str, device: DeviceType | None) -> Operation[str]:
    """Return the id of the variant for a device. Without a device, the service chooses among the variants."""
    return (yield from resolve(name, device)).id if device else name
