"""Reads models in the cache that have no manifest of Cupola: those of Foundry Local, or copied by hand."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cupola.cache import ModelInfo

logger = logging.getLogger(__name__)

LISTING = "foundry.modelinfo.json"
_SUFFIX = re.compile(r"-(?P<maker>generic|cuda|openvino|trtrtx|qnn|vitis)-(?P<device>cpu|gpu|npu)$", re.IGNORECASE)
_PROVIDERS = {  # by the first part of "-openvino-npu"
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "trtrtx": "NvTensorRTRTXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "vitis": "VitisAIExecutionProvider",
}
_GENERIC: dict[str, str] = {"CPU": "CPUExecutionProvider", "GPU": "WebGpuExecutionProvider"}


class _Inference(Struct):
    name: str = msgspec.field(name="Name")


class _GenaiModel(Struct):
    context_length: int = 0


class _GenaiConfig(Struct):
    model: _GenaiModel = msgspec.field(default_factory=_GenaiModel)


def describe(inference: bytes, config: bytes, *, publisher: str, size_bytes: int) -> ModelInfo:
    """Describe a model from its inference_model.json and genai_config.json.

    Raises:
        msgspec.DecodeError: One of the files is damaged.
    """
    model_id = msgspec.json.decode(inference, type=_Inference).name
    name = ModelInfo(id=model_id, alias="", source="", publisher="").name
    suffix = _SUFFIX.search(name)
    device: Any = suffix["device"].upper() if suffix else "CPU"
    maker = suffix["maker"].lower() if suffix else "generic"
    return ModelInfo(
        id=model_id,
        alias=name[: suffix.start()] if suffix else name,
        source="local",
        publisher=publisher or "local",
        device=device,
        provider=_PROVIDERS.get(maker) or _GENERIC.get(device, _GENERIC["CPU"]),
        size_bytes=size_bytes,
        context_length=msgspec.json.decode(config, type=_GenaiConfig).model.context_length,
    )


class _Listed(Struct, rename="camel"):
    """One model in Foundry Local's listing; only the fields that the model's folder does not have."""

    id: str = ""
    name: str = ""
    alias: str | None = None
    display_name: str | None = None
    task: str | None = None
    license: str | None = None
    license_description: str | None = None
    supports_tool_calling: bool | None = None
    max_output_tokens: int | None = None


class _Listing(Struct):
    models: list[_Listed] = []


class Listing:
    """Foundry Local's last catalog listing in the cache folder. Reloaded when the file changes. Blocks."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / LISTING
        self._read_at: tuple[int, int] | None = None
        self._models: Mapping[str, _Listed] = {}

    def add_listed_fields(self, info: ModelInfo) -> ModelInfo:
        """Return the model with the alias and other fields from the listing."""
        listed = self._listed().get(info.id.lower())
        if listed is None:
            return info
        return msgspec.structs.replace(
            info,
            alias=listed.alias or info.alias,
            display_name=listed.display_name or info.display_name,
            task=listed.task or info.task,
            license=listed.license or info.license,
            license_description=listed.license_description or info.license_description,
            supports_tool_calling=bool(listed.supports_tool_calling),
            max_output_tokens=listed.max_output_tokens or info.max_output_tokens,
        )

    def _listed(self) -> Mapping[str, _Listed]:
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._read_at:
                self._read_at = stat.st_mtime_ns, stat.st_size
                models = msgspec.json.decode(self._path.read_bytes(), type=_Listing).models
                self._models = {(model.id or model.name).lower(): model for model in models}
        except FileNotFoundError:
            self._models = {}
        except (OSError, msgspec.DecodeError) as error:
            self._models = {}
            logger.warning("Cannot read %s: %s. Models of Foundry Local are listed without aliases.", self._path, error)
        return self._models
