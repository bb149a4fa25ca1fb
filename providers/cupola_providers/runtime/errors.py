"""Translation of error messages of ONNX Runtime (1.32) and onnxruntime-genai (0.18) into Cupola's errors."""

import re

import onnxruntime_genai as og

from cupola.errors import LoadError, ModelFormatError
from cupola.provider import ModelFiles
from cupola_providers.runtime.config import DOWNLOAD_AGAIN, FILE_NAME, GenaiConfig

_DAMAGE = ("Protobuf parsing failed", "No graph was found", "External data path", "out of bounds")
_MISSING = (
    (r"libonnxruntime-genai-cuda|onnxruntime-genai-cuda\.dll|Cuda interface not available", "cuda"),
    (r"has not been built with DML support", "directml"),
    (r"[Nn]vTensorR[Tt]R[Tt][Xx]\w* execution provider is not supported", "tensorrt-rtx"),
    (r"(OpenVINO|QNN|WebGPU|VitisAI)\w* execution provider is not supported in this build", ""),
)
_NO_DRIVER = re.compile(r"(libcuda\.so\.1|nvcuda\.dll|libvulkan\.so\.1): cannot open")


def translate_error(model: ModelFiles, config: GenaiConfig, message: str) -> ModelFormatError | LoadError:
    """Return the error that describes a message of either library, with its remedy."""
    if "Unsupported model_type" in message:
        kind = config.model.type
        detail = f"models of the type {kind!r} are not supported by onnxruntime-genai {og.__version__}"
        return ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{detail}. Choose another model.")
    if "while parsing" in message:
        return ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{message}. {DOWNLOAD_AGAIN}")
    if found := as_damage_error(model, message):
        return found
    if "allocate" in message or "bad_alloc" in message:
        detail = f"there is not enough memory ({first_line(message)}). Unload other models, or choose a smaller one."
        return LoadError(model=model.id, detail=detail)
    detail = f"ONNX Runtime rejected it: {first_line(message).rstrip('. ')}."
    return LoadError(model=model.id, detail=f"{detail}{_advice(message)}")


def as_damage_error(model: ModelFiles, message: str) -> ModelFormatError | None:
    """Return an error if ONNX Runtime's message means that files are damaged; None otherwise."""
    if not any(sign in message for sign in _DAMAGE):
        return None
    detail = f"the model's files are damaged or incomplete ({first_line(message)}). {DOWNLOAD_AGAIN}"
    return ModelFormatError(path=str(model.path), detail=detail)


def first_line(message: str) -> str:
    """Return the first line of a message, at most 500 characters."""
    return message.split("\n", 1)[0][:500]


def _advice(message: str) -> str:
    """Return the remedy for a message; empty if none is known."""
    if driver := _NO_DRIVER.search(message):
        return (
            f" {driver[1]} is part of the device's driver. Install the driver; `cupola doctor` shows where to get it."
        )
    for sign, alias in _MISSING:
        if found := re.search(sign, message):
            return f" Run `cupola provider install {alias or found[1].lower()}`."
    if "matched the filtering criteria" in message:
        return " The device is no longer available. `cupola doctor` lists the available devices."
    return ""
