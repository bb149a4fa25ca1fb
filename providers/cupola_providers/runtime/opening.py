"""Loading a model on an accelerator: the same for all of them, but for what their modules say."""

from collections.abc import Mapping

from cupola.errors import LoadError
from cupola.provider import Device, EmbeddingSession, Limits, ModelFiles, Session
from cupola_providers.runtime.accelerator import Accelerator
from cupola_providers.runtime.devices import FoundDevice, Trouble, find_devices
from cupola_providers.runtime.embedding import is_embedding_model, open_embedding
from cupola_providers.runtime.loading import RuntimeSetup, open_session
from cupola_providers.runtime.target import Target
from cupola_providers.threads import usable_cores


def target_on(
    accelerator: Accelerator,
    model: ModelFiles,
    device: Device,
    options: Mapping[str, str],
    *,
    native_options: Mapping[str, str] | None = None,
    shares_cache: bool = True,
) -> Target:
    """Choose the device of an accelerator that a model is to run on.

    Args:
        accelerator: Which.
        model: For messages.
        device: As it was placed.
        options: For the provider.
        native_options: The same for plain ONNX Runtime, where that wants others.
        shares_cache: Whether its attention appends to the KV cache in place.

    Raises:
        LoadError: It cannot be used here, or has no such device.
    """
    found = find_devices(accelerator)
    if isinstance(found, Trouble):
        detail = f"{accelerator.name} cannot be used here: {found.problem}. What mends it: {found.remedy}"
        raise LoadError(model=model.id, detail=detail)
    chosen = _chosen(found, device)
    if chosen is None:
        there = ", ".join(f"{one.device.type} {one.device.index} ({one.device.name})" for one in found)
        detail = f"{accelerator.name} has no {device.type} {device.index} here; it has {there}"
        raise LoadError(model=model.id, detail=detail)
    return Target(
        provider=accelerator.name,
        genai_name=accelerator.genai_name,
        options={**chosen.options, **options},
        native_options=None if native_options is None else {**chosen.options, **native_options},
        device=chosen.native,
        shares_cache=shares_cache,
        host_cache=False,
    )


def open_on(target: Target, model: ModelFiles, limits: Limits) -> Session | EmbeddingSession:
    """Load a model on a target.

    Raises:
        LoadError, ModelFormatError: With what to do about it.
    """
    threads = usable_cores()
    if is_embedding_model(model.path):
        return open_embedding(model, threads=threads, spinning=True, limits=limits, target=target)
    return open_session(model, setup=RuntimeSetup(target=target, threads=threads), limits=limits)


def _chosen(found: list[FoundDevice], device: Device) -> FoundDevice | None:
    matching = [one for one in found if one.device.type == device.type]
    return matching[device.index] if device.index < len(matching) else None
