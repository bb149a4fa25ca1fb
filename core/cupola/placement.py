"""The built-in placement policy, asked after every plugin's `place_model`."""

from collections.abc import Sequence
from dataclasses import dataclass

from cupola.contracts import Device, ModelInfo, Placement
from cupola.measurements import Measurement

_PLAIN = "CPUExecutionProvider"
_BESIDE_FILES = 1.2  # what a loaded model takes, as a multiple of its files, where the catalog does not say


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """What was asked for: a provider by its whole name, a type of device. None leaves the choice."""

    provider: str | None = None
    device: str | None = None

    def __bool__(self) -> bool:
        return bool(self.provider or self.device)

    def admits(self, provider: str, device: str) -> bool:
        """Say whether a place is one that was asked for."""
        return self.provider in (None, provider) and self.device in (None, device)


NO_PREFERENCE = PlacementRequest()


def place(
    variants: Sequence[ModelInfo],
    devices: Sequence[Device],
    requested: PlacementRequest = NO_PREFERENCE,
    measured: Sequence[Measurement] = (),
) -> Placement | None:
    """Choose the variant and the device for a model; None if nothing here runs it.

    The first variant, in the catalog's order, that a device here runs; a place without enough free memory comes after
    those that have it. If that one was measured on this machine and others were too, the fastest of them. What was not
    measured is never passed over for what was, so that a new accelerator is taken without being asked.

    Args:
        variants: Best first.
        devices: In order of preference; `free_bytes` None leaves memory out of account.
        requested: What was asked for. A provider that is asked for by name also gets generic variants for its types of
            device, and after them what is made for the CPU, which any provider may try.
        measured: What is known of this machine.
    """
    devices = [device for device in devices if requested.admits(device.provider, device.type)]
    places = [Placement(v, d) for v in variants for d in devices if runs_on(v, d)]
    if requested.provider:
        places += [Placement(v, d) for v in variants for d in devices if v.device == d.type and _may_try(v, d)]
        places += [Placement(v, d) for v in variants for d in devices if v.device != d.type and _may_try(v, d)]
    roomy = [each for each in places if _fits(each)] or places
    if not roomy:
        return None
    speeds = {each.key: each.decode_tokens_per_s for each in measured}
    known = [each for each in roomy if _key(each) in speeds]
    return max(known, key=lambda each: speeds[_key(each)]) if roomy[0] in known else roomy[0]


def runs_on(variant: ModelInfo, device: Device) -> bool:
    """Say whether a variant is made for a device."""
    return (device.provider, device.type) == (variant.provider, variant.device)


def needed_bytes(variant: ModelInfo) -> int:
    """Estimate the memory that a variant takes on its device when it is loaded."""
    return variant.device_memory_bytes or int(variant.size_bytes * _BESIDE_FILES)


def _may_try(variant: ModelInfo, device: Device) -> bool:
    """Say whether a variant for another provider holds nothing that keeps this one from it."""
    is_for_device = "-generic-" in variant.name and variant.device == device.type
    return (is_for_device or variant.provider == _PLAIN) and not runs_on(variant, device)


def _fits(place: Placement) -> bool:
    return place.device.free_bytes is None or needed_bytes(place.variant) <= place.device.free_bytes


def _key(place: Placement) -> tuple[str, str, str]:
    return (place.variant.id.lower(), place.device.provider, place.device.type)
