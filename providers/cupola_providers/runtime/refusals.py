"""What the refusals of ONNX Runtime and onnxruntime-genai mean, for people. The texts are those of 1.32 and 0.18."""

import re

import onnxruntime_genai as og

from cupola.errors import LoadError, ModelFormatError
from cupola.provider import ModelFiles
from cupola_providers.runtime.config import FILE_NAME, GenaiConfig

AGAIN = "Delete the model's folder and download it again."

_DAMAGE = ("Protobuf parsing failed", "No graph was found", "External data path", "out of bounds")
_MISSING = (
    (r"libonnxruntime-genai-cuda|onnxruntime-genai-cuda\.dll|Cuda interface not available", "cuda"),
    (r"has not been built with DML support", "directml"),
    (r"[Nn]vTensorR[Tt]R[Tt][Xx]\w* execution provider is not supported", "tensorrt-rtx"),
    (r"(OpenVINO|QNN|WebGPU|VitisAI)\w* execution provider is not supported in this build", ""),
)
_NO_DRIVER = re.compile(r"(libcuda\.so\.1|nvcuda\.dll|libvulkan\.so\.1): cannot open")


def explained(model: ModelFiles, config: GenaiConfig, message: str) -> ModelFormatError | LoadError:
    """Say what an error of either library means, and what to do about it."""
    if "Unsupported model_type" in message:
        kind = config.model.type
        detail = f"models of the type {kind!r} are not supported by onnxruntime-genai {og.__version__}"
        return ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{detail}. Choose another model.")
    if "while parsing" in message:
        return ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{message}. {AGAIN}")
    if found := damage(model, message):
        return found
    if "allocate" in message or "bad_alloc" in message:
        detail = f"there is not enough memory ({first_line(message)}). Unload other models, or choose a smaller one."
        return LoadError(model=model.id, detail=detail)
    detail = f"ONNX Runtime refuses it: {first_line(message).rstrip('. ')}."
    return LoadError(model=model.id, detail=f"{detail}{_advice(message)}")


def damage(model: ModelFiles, message: str) -> ModelFormatError | None:
    """Recognise what ONNX Runtime says of files that are damaged."""
    if not any(sign in message for sign in _DAMAGE):
        return None
    detail = f"the model's files are damaged or incomplete ({first_line(message)}). {AGAIN}"
    return ModelFormatError(path=str(model.path), detail=detail)


def first_line(message: str) -> str:
    """Return the part of a message that people read."""
    return message.split("\n", 1)[0][:500]


def _advice(message: str) -> str:
    """Say what mends it, where that is known."""
    if driver := _NO_DRIVER.search(message):
        return f" {driver[1]} comes with the device's driver: install that; `cupola doctor` says where to find it."
    for sign, alias in _MISSING:
        if found := re.search(sign, message):
            return f" Run `cupola provider install {alias or found[1].lower()}`."
    if "matched the filtering criteria" in message:
        return " The device is gone: `cupola doctor` lists those that are there."
    return ""
