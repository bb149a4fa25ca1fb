"""The options that say where a model shall run."""

from collections.abc import Callable
from typing import Any

import click


def placement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --provider and --device; its settings read them with `placing`."""
    device = click.option(
        "--device",
        type=click.Choice(["CPU", "GPU", "NPU"], case_sensitive=False),
        help="Run it on this kind of device.",
    )
    provider = click.option(
        "--provider", metavar="NAME", help="Run it on this execution provider; `cupola provider list` shows them."
    )
    return provider(device(command))


def placing(provider: str | None, device: str | None) -> list[str]:
    """Return the options as overrides of settings."""
    wishes = (("provider", provider), ("device", device and device.upper()))
    return [f"models.{key}={value}" for key, value in wishes if value]
