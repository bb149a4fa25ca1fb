"""The tables of `foundry`: what there is, and what is cached. Scripts read them by column."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from cupola.contracts.models import ModelInfo

NO_MODELS_CACHED = "No models cached on device"
MEBIBYTE = 1024 * 1024
_RULE_BEYOND_ROW = 4


def model_table(models: Sequence[ModelInfo]) -> str:
    """Return models as a table that names an alias once and rules groups off.

    Args:
        models: The variants of an alias one after another.
    """
    header = _row("Alias", "Device", "Task", "File Size", "License", "Model ID")
    lines = [header, _rule(header)]
    for alias, variants in groupby(models, lambda info: info.alias):
        if len(lines) > 2:
            lines.append(_rule(lines[-1]))
        for number, info in enumerate(variants):
            shown = "" if number else alias
            lines.append(_row(shown, info.device, task_text(info), size_text(info), info.license, info.id))
    return "\n".join(lines)


def cached_table(models: Iterable[ModelInfo]) -> str:
    """Return the models on this machine as a table, or the sentence that there are none."""
    rows = [f"💾 {info.alias:<49} {info.id}" for info in models]
    if not rows:
        return NO_MODELS_CACHED
    return "\n".join(["Models cached on device:", f"   {'Alias':<49} Model ID", *rows])


def task_text(info: ModelInfo) -> str:
    """Return "chat" or "chat, tools"."""
    return info.task.removesuffix("-completion") + (", tools" if info.supports_tool_calling else "")


def size_text(info: ModelInfo) -> str:
    """Return "8.37 GB": gibibytes of whole mebibytes, as the catalog counts them."""
    return f"{info.size_bytes // MEBIBYTE / 1024:.2f} GB"


def _row(alias: str, device: str, task: str, size: str, license_name: str, model_id: str) -> str:
    return f"{alias:<30} {device:<10} {task:<14} {size:<12} {license_name:<12} {model_id}"


def _rule(row: str) -> str:
    return "-" * (len(row) + _RULE_BEYOND_ROW)
