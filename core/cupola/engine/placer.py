"""Chooses the variant of a model and the device to run it on."""

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

import psutil
from msgspec import structs

from cupola import placement
from cupola.contracts import Device, DeviceType, ModelInfo, Placement
from cupola.environments import Inventory, diagnose
from cupola.errors import InvalidParameterError, NoGpuError, NoProviderError
from cupola.measurements import Measurements
from cupola.model_index import ModelEntry, ModelIndex
from cupola.placement import NO_PREFERENCE, PlacementRequest
from cupola.plugins import PluginSet
from cupola.protocol import Load
from cupola.settings import Settings


class Placer:
    """Chooses variants and devices from the catalogs, the devices of this machine, and the request or settings.

    Args:
        settings: For the default provider and device, and the measurements file.
        plugins: Their `place_model` hooks are called before the built-in policy.
        catalog: Resolves names to variants; receives the detected devices.
        inventory: Detects the devices.
        loads: Returns the loaded models and where they run.
    """

    def __init__(
        self,
        settings: Settings,
        plugins: PluginSet,
        catalog: ModelIndex,
        inventory: Inventory,
        loads: Callable[[], Iterable[tuple[ModelInfo, Load]]],
    ) -> None:
        self._settings = settings
        self._plugins = plugins
        self._catalog = catalog
        self._inventory = inventory
        self._loads = loads
        self._measurements = Measurements(settings.measurements_path)
        self._gpu_index: int | None = None

    def devices(self) -> Sequence[Device]:
        """List the devices that can run models, with their free memory."""
        loads, devices = list(self._loads()), self._inventory.devices()
        chosen = {each.provider for each in devices if each.type == "GPU" and each.index == self._gpu_index}
        return [
            _with_free_memory(device, loads)
            for device in devices
            if device.type != "GPU" or device.provider not in chosen or device.index == self._gpu_index
        ]

    def choose_gpu(self, index: int) -> None:
        """Use the GPU with this index from now on, for every provider that has one with this index.

        Raises:
            NoGpuError: No execution provider on this machine has a GPU.
            InvalidParameterError: No execution provider has a GPU with this index.
        """
        devices = self._inventory.devices()
        indices = sorted({device.index for device in devices if device.type == "GPU"})
        if not indices:
            available = ", ".join(f"{device.provider} on {device.type}" for device in devices)
            raise NoGpuError(available=available)
        if index not in indices:
            detail = f"Unknown GPU {index}. Available: {', '.join(map(str, indices))}."
            raise InvalidParameterError(param="index", detail=detail)
        self._gpu_index = index

    async def refresh_devices(self) -> None:
        """Probe the providers without a cached report, and pass the devices to the catalogs."""
        if await self._inventory.refresh():
            self._catalog.use_devices(self._inventory.devices())

    async def candidates(
        self, name: str, requested: PlacementRequest = NO_PREFERENCE
    ) -> tuple[list[ModelEntry], Placement | None]:
        """Resolve a name to variants, and choose a placement. Cached variants take precedence over others.

        Returns:
            The candidate variants, and where one of them would run; None if none can run on this machine.

        Raises:
            ModelNotFoundError: Nothing matches the name.
        """
        await self.refresh_devices()
        requested = requested or self.parse_request()
        entries = await self._catalog.variants(name)
        here = [entry for entry in entries if entry.cached]
        for candidates in (here, entries):
            if place := self._place(name, [entry.info for entry in candidates], requested):
                return candidates, place
        return here or entries, None

    async def choose(self, name: str, requested: PlacementRequest = NO_PREFERENCE) -> tuple[ModelEntry, Placement]:
        """Choose one of the variants that a name resolves to, and where to run it.

        Raises:
            ModelNotFoundError: Nothing matches the name.
            NoProviderError: No provider, or no requested provider, can run any of the variants.
        """
        entries, place = await self.candidates(name, requested)
        if place is None:
            raise self.no_provider_error(name, [entry.info for entry in entries], requested or self.parse_request())
        return next(entry for entry in entries if entry.info.id == place.variant.id), place

    def _place(self, name: str, variants: Sequence[ModelInfo], requested: PlacementRequest) -> Placement | None:
        """Call the plugins, then the built-in policy. A plugin's choice outside of the arguments is ignored."""
        if not variants:
            return None
        devices = [each for each in self.devices() if requested.admits(each.provider, each.type)]
        place = self._plugins.place(name, variants, devices)
        if place and place.variant in variants and place.device in devices:
            return place
        return placement.place(variants, devices, requested, self._measurements.read())

    def parse_request(self, provider: str | None = None, device: str | None = None) -> PlacementRequest:
        """Validate a requested provider and device type. Without either, the settings apply.

        Args:
            provider: Full or short name, such as "cuda".
            device: "CPU", "GPU" or "NPU", in any case.

        Raises:
            InvalidParameterError: The provider or device type is unknown.
        """
        if not provider and not device:
            provider, device = self._settings.models.provider, self._settings.models.device
        if device and device.upper() not in get_args(DeviceType):
            detail = f"Unknown device type {device[:80]!r}. Valid types: {', '.join(get_args(DeviceType))}."
            raise InvalidParameterError(param="device", detail=detail)
        return PlacementRequest(self._provider_name(provider) if provider else None, device.upper() if device else None)

    def no_provider_error(
        self, name: str, variants: Sequence[ModelInfo], requested: PlacementRequest
    ) -> NoProviderError:
        """Create the error that tells what the model needs and why the matching providers are unavailable."""
        needs = {f"{variant.provider} on {variant.device}" for variant in variants}
        if requested:
            needs = {f"{requested.provider or 'any provider'} on {requested.device or 'any device'}, as requested"}
        wanted = {requested.provider} if requested.provider else {variant.provider for variant in variants}
        found = [diagnose(self._inventory, e) for e in self._plugins.providers if e.provider.name in wanted]
        return NoProviderError(
            model=name,
            needs=" or ".join(sorted(needs)),
            available=", ".join(f"{device.provider} on {device.type}" for device in self._inventory.devices()),
            remedy=" ".join(diagnosis.message for diagnosis in found if diagnosis.status != "usable"),
        )

    def _provider_name(self, wanted: str) -> str:
        for entry in self._plugins.providers:
            if wanted.lower() in (entry.provider.name.lower(), entry.provider.alias):
                return entry.provider.name
        known = ", ".join(entry.provider.alias for entry in self._plugins.providers)
        detail = f"Unknown execution provider {wanted[:80]!r}. Available: {known or 'none'}."
        raise InvalidParameterError(param="provider", detail=detail)


def _with_free_memory(device: Device, loads: Iterable[tuple[ModelInfo, Load]]) -> Device:
    """Fill in a device's free memory: as reported by the system for the CPU, estimated from the loads otherwise."""
    if device.type == "CPU":
        return structs.replace(device, free_bytes=psutil.virtual_memory().available)
    if not device.memory_bytes:
        return device
    place = (device.provider, device.type, device.index)
    taken = [info for info, load in loads if (load.provider, load.device, load.device_index) == place]
    return structs.replace(device, free_bytes=device.memory_bytes - sum(map(placement.needed_bytes, taken)))
