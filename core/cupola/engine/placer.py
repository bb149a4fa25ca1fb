"""Which variant of a model runs where: the catalog's variants, this machine's devices, and what was asked for."""

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

import psutil
from msgspec import structs

from cupola import placement
from cupola.contracts import Device, DeviceType, ModelInfo, Placement
from cupola.environments import Inventory, diagnose
from cupola.errors import InvalidParameterError, NoGpuError, NoProviderError
from cupola.measurements import Measurements
from cupola.messages import Load
from cupola.model_index import ModelEntry, ModelIndex
from cupola.placement import NO_PREFERENCE, PlacementRequest
from cupola.plugins import PluginSet
from cupola.settings import Settings


class Placer:
    """Chooses variants and devices.

    Args:
        catalog: Where the variants are looked up; it is told of devices that are found.
        loads: Lists what is loaded now, with where it runs.
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
        """List what models can be placed on, with the memory that is free there."""
        loads, devices = list(self._loads()), self._inventory.devices()
        chosen = {each.provider for each in devices if each.type == "GPU" and each.index == self._gpu_index}
        return [
            _with_free_memory(device, loads)
            for device in devices
            if device.type != "GPU" or device.provider not in chosen or device.index == self._gpu_index
        ]

    def choose_gpu(self, index: int) -> None:
        """Take this GPU, from now on, of those that a provider has; one that has no such GPU keeps its choice.

        Raises:
            NoGpuError: Nothing here runs models on GPUs.
            InvalidParameterError: No provider has a GPU of this index.
        """
        devices = self._inventory.devices()
        indices = sorted({device.index for device in devices if device.type == "GPU"})
        if not indices:
            available = ", ".join(f"{device.provider} on {device.type}" for device in devices)
            raise NoGpuError(available=available)
        if index not in indices:
            detail = f"There is no GPU {index} here; there are: {', '.join(map(str, indices))}."
            raise InvalidParameterError(param="index", detail=detail)
        self._gpu_index = index

    async def refresh_devices(self) -> None:
        """Have the providers probed of which nothing is known. Who has the CPU alone waits for nothing."""
        if await self._inventory.refresh():
            self._catalog.use_devices(self._inventory.devices())

    async def candidates(
        self, name: str, requested: PlacementRequest = NO_PREFERENCE
    ) -> tuple[list[ModelEntry], Placement | None]:
        """Find the variants a name can mean and where one would run; what is here comes before what is not.

        Raises:
            ModelNotFoundError: Nothing goes by that name.
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
        """Choose among the variants a name can mean.

        Raises:
            ModelNotFoundError: Nothing goes by that name.
            NoProviderError: Nothing here runs any of them, or nothing of what was asked for.
        """
        entries, place = await self.candidates(name, requested)
        if place is None:
            raise self.no_provider_error(name, [entry.info for entry in entries], requested or self.parse_request())
        return next(entry for entry in entries if entry.info.id == place.variant.id), place

    def _place(self, name: str, variants: Sequence[ModelInfo], requested: PlacementRequest) -> Placement | None:
        """Ask the plugins, then the built-in policy. A plugin's choice that was not offered is none."""
        if not variants:
            return None
        devices = [each for each in self.devices() if requested.admits(each.provider, each.type)]
        place = self._plugins.place(name, variants, devices)
        if place and place.variant in variants and place.device in devices:
            return place
        return placement.place(variants, devices, requested, self._measurements.read())

    def parse_request(self, provider: str | None = None, device: str | None = None) -> PlacementRequest:
        """Understand what a request asks for, or else the settings.

        Args:
            provider: A whole name or a short one, "cuda".
            device: "CPU", "GPU" or "NPU", whatever the case.

        Raises:
            InvalidParameterError: There is no such provider, or no such kind of device.
        """
        if not provider and not device:
            provider, device = self._settings.models.provider, self._settings.models.device
        if device and device.upper() not in get_args(DeviceType):
            detail = f"There is no kind of device {device[:80]!r}; there are: {', '.join(get_args(DeviceType))}."
            raise InvalidParameterError(param="device", detail=detail)
        return PlacementRequest(self._provider_name(provider) if provider else None, device.upper() if device else None)

    def no_provider_error(
        self, name: str, variants: Sequence[ModelInfo], requested: PlacementRequest
    ) -> NoProviderError:
        """Say what would be needed, and what is in the way of the providers that could do it."""
        needs = {f"{variant.provider} on {variant.device}" for variant in variants}
        if requested:
            needs = {f"{requested.provider or 'a provider'} on {requested.device or 'a device'} that was asked for"}
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
        detail = f"There is no execution provider {wanted[:80]!r} here; there are: {known or 'none'}."
        raise InvalidParameterError(param="provider", detail=detail)


def _with_free_memory(device: Device, loads: Iterable[tuple[ModelInfo, Load]]) -> Device:
    """Say how much of a device's memory is free: what the system says of its own, an estimate elsewhere."""
    if device.type == "CPU":
        return structs.replace(device, free_bytes=psutil.virtual_memory().available)
    if not device.memory_bytes:
        return device
    place = (device.provider, device.type, device.index)
    taken = [info for info, load in loads if (load.provider, load.device, load.device_index) == place]
    return structs.replace(device, free_bytes=device.memory_bytes - sum(map(placement.needed_bytes, taken)))
