"""NVIDIA's RTX graphics, through TensorRT for RTX."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from cupola.provider import ExecutionProvider, Settings, hookimpl
from cupola_providers.runtime.accelerated import AcceleratorProvider
from cupola_providers.runtime.accelerator import (
    LINUX_X64,
    WINDOWS_ARM64,
    WINDOWS_X64,
    Accelerator,
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
    needs="NVIDIA RTX graphics",
    link="https://www.nvidia.com/drivers",
    genai_library="onnxruntime-genai-cuda",
)
_Shapes = Annotated[str, Meta(pattern=r"^[^:,]+:\d+(x\d+)*(,[^:,]+:\d+(x\d+)*)*$")]


class TensorRtOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.tensorrt-rtx]`. What is not set is left to TensorRT.

    Attributes:
        nv_max_workspace_size: Most memory that building an engine may take, in bytes; 0, the default, is TensorRT's.
        nv_max_shared_mem_size: Most shared memory of a kernel, in bytes; 0, the default, is the device's.
        nv_profile_min_shapes, nv_profile_opt_shapes, nv_profile_max_shapes: Shapes to build engines for,
            "input_ids:1x1,attention_mask:1x1"; onnxruntime-genai fills them.
        nv_multi_profile_enable: Whether prompts and single tokens get profiles of their own; off by default.
        nv_runtime_cache_path: Folder for compiled kernels, from which a second start is quicker.
        nv_weight_streaming_budget: Weights that stay on the device: "512M", "60%", -1 by itself; 0, the default, all.
        nv_use_external_data_initializer: Whether weights stay in their own file; off by default.
        nv_persistent_context_memory: Whether memory is kept from run to run; off by default.
        nv_op_types_to_exclude: Kinds of nodes to leave to others.
        nv_detailed_build_log: Whether building is told in detail; off by default.
        enable_cuda_graph: Whether kernels are recorded once and repeated; off by default.
        library: The plugin library, instead of the package's: of Windows ML's own copy, say.
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
    """Runs models on NVIDIA's RTX graphics."""

    accelerator = _TENSORRT
    device_types = ("GPU",)
    requirements = requirements(
        "onnxruntime-gpu==1.31.1",
        "onnxruntime-genai-cuda==0.18.0",
        "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0",
        on=_PLATFORMS,
    )
    prerequisites = f"It wants RTX graphics and NVIDIA's driver: {_TENSORRT.link}"
    options_type = TensorRtOptions


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring TensorRT for RTX."""
    return [TensorRtProvider()]
