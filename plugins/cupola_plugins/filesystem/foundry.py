"""Reads models that Foundry Local downloaded, or that people put into its cache, without a manifest of ours."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from cupola import ModelInfo

_SUFFIX = re.compile(r"-(?P<maker>generic|cuda|openvino|trtrtx|qnn|vitis)-(?P<device>cpu|gpu|npu)$", re.IGNORECASE)
_PROVIDERS = {  # by the maker part of "-openvino-npu"
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
        msgspec.DecodeError: One of the two is damaged.
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
