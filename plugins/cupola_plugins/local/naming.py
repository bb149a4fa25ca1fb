"""Names for models that nobody has named yet."""

import re
from pathlib import Path

from cupola.catalog import ImportOptions

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_DEVICE = re.compile(r"-(generic|cuda|openvino|trtrtx|qnn|vitis|directml)-(cpu|gpu|npu)$", re.IGNORECASE)
_QUANTISATION = re.compile(r"[.-](i?q\d\w*|f16|f32|bf16|fp16|fp32)$", re.IGNORECASE)
_HUB_FOLDER = "models--"


def publisher_of(path: Path) -> str:
    """Return who published it, as Hugging Face's cache folders tell ("models--org--name"); else "local"."""
    return _hub_words(path)[0] or "local"


def id_and_alias(path: Path, options: ImportOptions, *, suffix: str) -> tuple[str, str]:
    """Name a model after the options, else after its folder or file.

    Args:
        path: The folder or file.
        options: "name" or "name:version", and the alias.
        suffix: Tells the device, "generic-cpu"; not added to a name that tells one.
    """
    wished, _, version = options.name.partition(":")
    name = wished or _hub_words(path)[1] or (path.name if path.is_dir() else _QUANTISATION.sub("", path.stem))
    name = _UNFIT.sub("-", name).strip("-.") or "model"
    stem = _DEVICE.sub("", name)
    full = name if stem != name else f"{name}-{suffix}"
    alias = _UNFIT.sub("-", options.alias).strip("-.") or stem.lower()
    return f"{full}:{int(version) if version.isdecimal() else 1}", alias


def _hub_words(path: Path) -> tuple[str, str]:
    """Return organisation and name of a model in Hugging Face's cache, empty elsewhere."""
    for part in reversed(path.parts):
        if part.startswith(_HUB_FOLDER):
            organisation, _, name = part.removeprefix(_HUB_FOLDER).rpartition("--")
            return organisation, name
    return "", ""
