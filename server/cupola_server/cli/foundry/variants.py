"""Variants of a model as `foundry` selects them by name and `--device`, and the tables that list them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from cupola.frontend import ModelInfo, ModelStatus
from cupola_server.cli.foundry.errors import FoundryFailure
from cupola_server.cli.options import complete_model_name

if TYPE_CHECKING:
    from cupola.engine import Engine

ANY_DEVICE = "Auto"
_DEVICES = (ANY_DEVICE, "CPU", "GPU", "NPU")
NO_MODELS_CACHED = "No models cached on device"
MEBIBYTE = 1024 * 1024
_RULE_BEYOND_ROW = 4


def _complete_device(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete device types, spelled as in the help."""
    return [device for device in _DEVICES if device.lower().startswith(incomplete.lower())]


model_argument = click.argument("name", metavar="model", shell_complete=complete_model_name)
device_option = click.option(
    "--device",
    type=click.Choice(_DEVICES, case_sensitive=False),
    shell_complete=_complete_device,
    default=ANY_DEVICE,
    show_default=True,
    help="The device to run the model on",
)

ttl_option = click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(min=0),
    metavar="seconds",
    default=600,
    show_default=True,
    help="Idle time after which the model is unloaded",
)


async def find_variants(engine: "Engine", name: str, device: str) -> Sequence[ModelStatus]:
    """Find the variants of a model for a device type, best first.

    Raises:
        ModelNotFoundError: No catalog lists the model.
        FoundryFailure: The model has no variant for this device type.
    """
    found = await engine.variants(name)
    matching = [status for status in found if device in (ANY_DEVICE, status.info.device)]
    if not matching:
        others = ", ".join(sorted({status.info.device for status in found}))
        raise FoundryFailure(f"Model {name} was not found in the catalog for device {device}, only for {others}")
    return matching


async def choose_variant(engine: "Engine", name: str, device: str) -> ModelStatus:
    """Choose a variant of a model for a device type: a cached one before others, then the best one.

    Raises:
        ModelNotFoundError, FoundryFailure: The model is unknown, or has no variant for this device type.
    """
    if device == ANY_DEVICE:
        return await engine.resolve(name)
    found = await find_variants(engine, name, device)
    return next((status for status in found if status.cached), found[0])


def model_table(models: Sequence[ModelInfo]) -> str:
    """Format models as a table with one group per alias.

    Args:
        models: The models, with the variants of an alias adjacent.
    """
    header = _row("Alias", "Device", "Task", "File Size", "License", "Model ID")
    lines = [header, _rule(header)]
    for alias, group in groupby(models, lambda info: info.alias):
        if len(lines) > 2:
            lines.append(_rule(lines[-1]))
        for number, info in enumerate(group):
            shown = "" if number else alias
            lines.append(_row(shown, info.device, format_task(info), format_size(info), info.license, info.id))
    return "\n".join(lines)


def cached_table(models: Iterable[ModelInfo]) -> str:
    """Format the cached models as a table, or say that there are none."""
    rows = [f"💾 {info.alias:<49} {info.id}" for info in models]
    if not rows:
        return NO_MODELS_CACHED
    return "\n".join(["Models cached on device:", f"   {'Alias':<49} Model ID", *rows])


def format_task(info: ModelInfo) -> str:
    """Format a task as "chat" or "chat, tools"."""
    return info.task.removesuffix("-completion") + (", tools" if info.supports_tool_calling else "")


def format_size(info: ModelInfo) -> str:
    """Format a size as "8.37 GB": GiB, computed from whole MiB as the original does."""
    return f"{info.size_bytes // MEBIBYTE / 1024:.2f} GB"


def _row(alias: str, device: str, task: str, size: str, license_name: str, model_id: str) -> str:
    return f"{alias:<30} {device:<10} {task:<14} {size:<12} {license_name:<12} {model_id}"


def _rule(row: str) -> str:
    return "-" * (len(row) + _RULE_BEYOND_ROW)
