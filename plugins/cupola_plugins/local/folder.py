"""Model folders with a genai_config.json, as the model builder and Olive write them, and names for imported models.

Everything here blocks.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cupola.catalog import DeviceType, ImportOptions, ModelInfo
from cupola.errors import ModelFormatError

_CONFIG = "genai_config.json"
# The manifests of Cupola's and Foundry Local's caches, which each cache writes itself.
_CACHE_MANIFESTS = ("cupola.manifest.json", "inference_model.json")
_INVALID = re.compile(r"[^A-Za-z0-9._-]+")
_DEVICE = re.compile(r"-(generic|cuda|openvino|trtrtx|qnn|vitis|directml)-(cpu|gpu|npu)$", re.IGNORECASE)
_QUANTIZATION = re.compile(r"[.-](i?q\d\w*|f16|f32|bf16|fp16|fp32)$", re.IGNORECASE)
_HUB_FOLDER = "models--"


@dataclass(frozen=True, slots=True)
class _Target:
    """The execution provider and device that a model was made for."""

    provider: str
    device: DeviceType
    suffix: str


_TARGETS: Mapping[str, _Target] = {
    "cuda": _Target("CUDAExecutionProvider", "GPU", "cuda-gpu"),
    "dml": _Target("DmlExecutionProvider", "GPU", "directml-gpu"),
    "webgpu": _Target("WebGpuExecutionProvider", "GPU", "generic-gpu"),
    "nvtensorrtrtx": _Target("NvTensorRTRTXExecutionProvider", "GPU", "trtrtx-gpu"),
    "qnn": _Target("QNNExecutionProvider", "NPU", "qnn-npu"),
    "vitisai": _Target("VitisAIExecutionProvider", "NPU", "vitis-npu"),
}


_CPU = _Target("CPUExecutionProvider", "CPU", "generic-cpu")


class _SessionOptions(Struct):
    provider_options: list[dict[str, dict[str, Any]]] = []


class _Decoder(Struct):
    session_options: _SessionOptions = msgspec.field(default_factory=_SessionOptions)


class _Model(Struct):
    type: str = ""
    context_length: int = 0
    decoder: _Decoder = msgspec.field(default_factory=_Decoder)


class _GenaiConfig(Struct):
    model: _Model


def model_root(path: Path) -> Path | None:
    """Return the folder with genai_config.json: `path`, or the only such folder below it; None if there is none.

    Raises:
        ModelFormatError: There are several such folders.
    """
    if not path.is_dir():
        return None
    if (path / _CONFIG).is_file():
        return path
    found = sorted(config.parent for config in path.rglob(_CONFIG) if not _is_hidden(config.relative_to(path)))
    if len(found) > 1:
        names = ", ".join(str(folder) for folder in found[:5])
        raise ModelFormatError(path=str(path), detail=f"holds several models. Name one of them: {names}")
    return found[0] if found else None


def describe(root: Path, options: ImportOptions, *, source: str) -> ModelInfo:
    """Return the description of the model in a folder.

    Raises:
        ModelFormatError: genai_config.json is damaged, or a file is missing.
    """
    try:
        model = msgspec.json.decode((root / _CONFIG).read_bytes(), type=_GenaiConfig).model
    except (OSError, msgspec.DecodeError) as error:
        raise ModelFormatError(path=str(root / _CONFIG), detail=f"cannot be read: {error}") from error
    target = _target(model.decoder.session_options.provider_options)
    model_id, alias = id_and_alias(root, options, suffix=target.suffix)
    template = _template(root)
    return ModelInfo(
        id=model_id,
        alias=alias,
        source=source,
        publisher=publisher_of(root),
        display_name=model_id.rpartition(":")[0],
        task=_task(model.type, has_template=bool(template)),
        device=target.device,
        provider=target.provider,
        size_bytes=sum(path.stat().st_size for path in model_files(root)),
        context_length=model.context_length,
        supports_tool_calling="tools" in template,
        uri=root.resolve().as_uri(),
    )


def model_files(root: Path) -> list[Path]:
    """List the files of the model, without hidden files and the manifests that caches write.

    Raises:
        ModelFormatError: A symbolic link is broken, as in an incomplete download.
    """
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or name in _CACHE_MANIFESTS or name.endswith(".part"):
                continue
            if not path.exists():
                raise ModelFormatError(
                    path=str(path),
                    detail="is a link that leads nowhere. The download may be incomplete; download the model again",
                )
            found.append(path)
    return found


def publisher_of(path: Path) -> str:
    """Return the organization from a folder of Hugging Face's cache ("models--org--name"), else "local"."""
    return _hub_name(path)[0] or "local"


def id_and_alias(path: Path, options: ImportOptions, *, suffix: str) -> tuple[str, str]:
    """Return the id and alias of a model: those in the options, else made from its folder or file name.

    Args:
        path: The folder or file.
        options: Its name is "name" or "name:version".
        suffix: The device suffix, "generic-cpu"; not added to a name that has one.
    """
    given, _, version = options.name.partition(":")
    name = given or _hub_name(path)[1] or (path.name if path.is_dir() else _QUANTIZATION.sub("", path.stem))
    name = _INVALID.sub("-", name).strip("-.") or "model"
    stem = _DEVICE.sub("", name)
    full = name if stem != name else f"{name}-{suffix}"
    alias = _INVALID.sub("-", options.alias).strip("-.") or stem.lower()
    return f"{full}:{int(version) if version.isdecimal() else 1}", alias


def _target(options: Sequence[Mapping[str, Mapping[str, Any]]]) -> _Target:
    """Return the target of the first known provider; the CPU if there is none."""
    for entry in options:
        for name, values in entry.items():
            key = name.lower().removesuffix("executionprovider")
            if key == "openvino":
                kind = str(values.get("device_type", "CPU")).upper()
                device: DeviceType = "NPU" if "NPU" in kind else "GPU" if "GPU" in kind else "CPU"
                return _Target("OpenVINOExecutionProvider", device, f"openvino-{device.lower()}")
            if key in _TARGETS:
                return _TARGETS[key]
    return _CPU


def _template(root: Path) -> str:
    """Return the text of the file that contains the chat template, "" if there is none."""
    template = root / "chat_template.jinja"
    if template.is_file():
        return template.read_text("utf-8", "replace")
    config = root / "tokenizer_config.json"
    text = config.read_text("utf-8", "replace") if config.is_file() else ""
    return text if '"chat_template"' in text else ""


def _task(kind: str, *, has_template: bool) -> str:
    if kind == "whisper":
        return "automatic-speech-recognition"
    return "chat-completion" if has_template else "text-generation"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _hub_name(path: Path) -> tuple[str, str]:
    """Return the organization and name of a model in Hugging Face's cache, empty strings for other paths."""
    for part in reversed(path.parts):
        if part.startswith(_HUB_FOLDER):
            organization, _, name = part.removeprefix(_HUB_FOLDER).rpartition("--")
            return organization, name
    return "", ""
