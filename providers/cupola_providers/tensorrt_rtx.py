"""The TensorRT for RTX execution provider, for NVIDIA RTX GPUs."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from cupola.provider import ExecutionProvider, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    LINUX_X64,
    WINDOWS_ARM64,
    WINDOWS_X64,
    Accelerator,
    AcceleratorProvider,
    requirements,
)

_PLATFORMS = (LINUX_X64, WINDOWS_X64, WINDOWS_ARM64)
_TENSORRT = Accelerator(
    name="NvTensorRTRTXExecutionProvider",
    alias="tensorrt-rtx",
    genai_name="NvTensorRtRtx",
    platforms=_PLATFORMS,
    packages=("onnxruntime_ep_nv_tensorrt_rtx",),
    driver_libraries=("libcuda.so.1", "nvcuda.dll"),
    needs="NVIDIA RTX GPU",
    link="https://www.nvidia.com/drivers",
    genai_library="onnxruntime-genai-cuda",
)
_Shapes = Annotated[str, Meta(pattern=r"^[^:,]+:\d+(x\d+)*(,[^:,]+:\d+(x\d+)*)*$")]


class TensorRtOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.tensorrt-rtx]`. Options that are not set keep TensorRT's default.

    Attributes:
        nv_max_workspace_size: Maximum memory for building an engine, in bytes; 0, the default, uses TensorRT's limit.
        nv_max_shared_mem_size: Maximum shared memory of a kernel, in bytes; 0, the default, uses the device's limit.
        nv_profile_min_shapes, nv_profile_opt_shapes, nv_profile_max_shapes: Shapes to build engines for,
            "input_ids:1x1,attention_mask:1x1"; onnxruntime-genai fills them.
        nv_multi_profile_enable: Whether prefill and decoding use separate profiles; off by default.
        nv_runtime_cache_path: Folder for compiled kernels, which makes later starts faster.
        nv_weight_streaming_budget: Weights that stay on the device: "512M", "60%", -1 by itself; 0, the default, all.
        nv_use_external_data_initializer: Whether weights stay in their own file; off by default.
        nv_persistent_context_memory: Whether memory is kept between runs; off by default.
        nv_op_types_to_exclude: Operator types to assign to other providers.
        nv_detailed_build_log: Whether the engine build is logged in detail; off by default.
        enable_cuda_graph: Whether kernels are recorded once and replayed; off by default.
        library: Path of a plugin library to use instead of the package's, such as the copy of Windows ML.
    """

    nv_max_workspace_size: Annotated[int, Meta(ge=0)] | None = None
    nv_max_shared_mem_size: Annotated[int, Meta(ge=0)] | None = None
    nv_profile_min_shapes: _Shapes | None = None
    nv_profile_opt_shapes: _Shapes | None = None
    nv_profile_max_shapes: _Shapes | None = None
    nv_multi_profile_enable: bool | None = None
    nv_runtime_cache_path: str | None = None
    nv_weight_streaming_budget: Annotated[str, Meta(pattern=r"^(-1|\d+[BKMG%]?)$")] | None = None
    nv_use_external_data_initializer: bool | None = None
    nv_persistent_context_memory: bool | None = None
    nv_op_types_to_exclude: tuple[str, ...] | None = None
    nv_detailed_build_log: bool | None = None
    enable_cuda_graph: bool | None = None
    library: str = ""


class TensorRtProvider(AcceleratorProvider):
    """Runs models on NVIDIA RTX GPUs."""

    accelerator = _TENSORRT
    device_types = ("GPU",)
    requirements = requirements(
        "onnxruntime-gpu==1.31.1",
        "onnxruntime-genai-cuda==0.18.0",
        "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0",
        on=_PLATFORMS,
    )
    prerequisites = f"Requires an RTX GPU and NVIDIA's driver: {_TENSORRT.link}"
    options_type = TensorRtOptions


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the TensorRT for RTX execution provider."""
    return [TensorRtProvider()]
