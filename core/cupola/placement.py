"""The built-in placement policy, which applies when no plugin's `place_model` hook decides."""

from collections.abc import Sequence
from dataclasses import dataclass

from cupola.contracts import Device, ModelInfo, Placement
from cupola.measurements import Measurement

_CPU = "CPUExecutionProvider"
_MEMORY_PER_FILE_BYTE = 1.2  # estimate of a loaded model's memory where the catalog does not give it


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """The provider (full name) and device type that a request or the settings ask for; None allows any."""

    provider: str | None = None
    device: str | None = None

    def __bool__(self) -> bool:
        return bool(self.provider or self.device)

    def admits(self, provider: str, device: str) -> bool:
        """Whether a provider and device type satisfy the request."""
        return self.provider in (None, provider) and self.device in (None, device)


NO_PREFERENCE = PlacementRequest()


def place(
    variants: Sequence[ModelInfo],
    devices: Sequence[Device],
    requested: PlacementRequest = NO_PREFERENCE,
    measured: Sequence[Measurement] = (),
) -> Placement | None:
    """Choose the variant and the device for a model; None if no device can run it.

    The first variant in catalog order that a device can run, with devices that have too little free memory last. If
    that placement was measured on this machine, the fastest measured one wins instead. An unmeasured placement is
    never skipped in favor of a measured one, so that a new accelerator is used without configuration.

    Args:
        variants: Best first.
        devices: In order of preference. A `free_bytes` of None skips the memory check.
        requested: The requested provider and device type. A provider requested by name may also run generic variants
            for its device types, and after those the variants for the CPU.
        measured: Measurements of this machine.
    """
    devices = [device for device in devices if requested.admits(device.provider, device.type)]
    placements = [Placement(v, d) for v in variants for d in devices if runs_on(v, d)]
    if requested.provider:
        placements += [Placement(v, d) for v in variants for d in devices if v.device == d.type and _may_try(v, d)]
        placements += [Placement(v, d) for v in variants for d in devices if v.device != d.type and _may_try(v, d)]
    fitting = [each for each in placements if _fits(each)] or placements
    if not fitting:
        return None
    speeds = {each.key: each.decode_tokens_per_s for each in measured}
    known = [each for each in fitting if _key(each) in speeds]
    return max(known, key=lambda each: speeds[_key(each)]) if fitting[0] in known else fitting[0]


def runs_on(variant: ModelInfo, device: Device) -> bool:
    """Whether a variant is made for a device."""
    return (device.provider, device.type) == (variant.provider, variant.device)


def needed_bytes(variant: ModelInfo) -> int:
    """Estimate the device memory that a variant needs when it is loaded."""
    return variant.device_memory_bytes or int(variant.size_bytes * _MEMORY_PER_FILE_BYTE)


def _may_try(variant: ModelInfo, device: Device) -> bool:
    """Whether a variant made for another provider might also run on this one: generic and CPU variants do."""
    is_generic = "-generic-" in variant.name and variant.device == device.type
    return (is_generic or variant.provider == _CPU) and not runs_on(variant, device)


def _fits(place: Placement) -> bool:
    return place.device.free_bytes is None or needed_bytes(place.variant) <= place.device.free_bytes


def _key(place: Placement) -> tuple[str, str, str]:
    return (place.variant.id.lower(), place.device.provider, place.device.type)
