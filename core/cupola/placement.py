"""The built-in placement policy, asked after every plugin's `place_model`."""

from collections.abc import Sequence

from cupola.contracts import Device, ModelInfo, Placement


def place(variants: Sequence[ModelInfo], devices: Sequence[Device]) -> Placement | None:
    """Choose the first variant, in the catalog's order, for whose provider and device type there is a device."""
    for variant in variants:
        for device in devices:
            if (device.provider, device.type) == (variant.provider, variant.device):
                return Placement(variant, device)
    return None
