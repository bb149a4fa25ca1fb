"""The built-in placement policy, asked after every plugin's `place_model`."""

from collections.abc import Sequence

from cupola.contracts import Device, ModelInfo, Placement


def place(variants: Sequence[ModelInfo], devices: Sequence[Device], provider: str | None = None) -> Placement | None:
    """Choose the first variant, in the catalog's order, for whose provider and device type there is a device.

    Args:
        variants: Best first.
        devices: In order of preference.
        provider: One that was asked for by name: it also gets generic variants, which are bound to a device type only.
    """
    for variant in variants:
        for device in devices:
            if device.type == variant.device and (
                device.provider == variant.provider or (device.provider == provider and "-generic-" in variant.name)
            ):
                return Placement(variant, device)
    return None
