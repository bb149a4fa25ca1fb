"""The CUDA execution provider, for NVIDIA GPUs."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    LINUX_ARM64,
    LINUX_X64,
    WINDOWS_ARM64,
    WINDOWS_X64,
    Accelerator,
    AcceleratorProvider,
    format_options,
    requirements,
)

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target

_PLATFORMS = (LINUX_X64, LINUX_ARM64, WINDOWS_X64, WINDOWS_ARM64)
_CUDA = Accelerator(
    name="CUDAExecutionProvider",
    alias="cuda",
    genai_name="cuda",
    platforms=_PLATFORMS,
    driver_libraries=("libcuda.so.1", "nvcuda.dll"),
    needs="NVIDIA GPU",
    link="https://www.nvidia.com/drivers",
    genai_library="onnxruntime-genai-cuda",
    built_in={"GPU": {}},
    preloads=True,
)
_OF_GENAI = ("max_mem", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk", "initial_growth_chunk_size_bytes")
_Bytes = Annotated[int, Meta(ge=-1)]


class CudaOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.cuda]`. Options that are not set keep the library's default.

    Attributes:
        device_id: Index of the GPU; the placement's device by default.
        gpu_mem_limit: Maximum size of ONNX Runtime's arena on the device, in bytes; unlimited by default.
        arena_extend_strategy: How the arena grows: 0, the default, by powers of two; 1 by the requested size.
        cudnn_conv_algo_search: Search for convolution algorithms; EXHAUSTIVE by default.
        cudnn_conv_use_max_workspace: Whether convolutions may use the maximum workspace; on by default.
        do_copy_in_default_stream: Whether copies run in the compute stream; on by default.
        enable_cuda_graph: Whether kernels are recorded once and replayed; off by default.
        enable_skip_layer_norm_strict_mode: Whether layer normalisation sums in float32; off by default.
        use_tf32: Whether float32 products are computed in TF32; on by default.
        prefer_nhwc: Whether convolutions use the NHWC layout; off by default.
        use_ep_level_unified_stream: Whether all work uses one stream; off by default.
        tunable_op_enable, tunable_op_tuning_enable: Whether tuned kernels are used, and tuned here; off by default.
        max_mem, initial_chunk_size_bytes, max_dead_bytes_per_chunk, initial_growth_chunk_size_bytes:
            The arena of onnxruntime-genai, in bytes; -1 keeps its default. A `max_mem` of 0 is unlimited.
        library: Path of a plugin library, if there is one.
    """

    device_id: Annotated[int, Meta(ge=0)] | None = None
    gpu_mem_limit: Annotated[int, Meta(ge=1)] | None = None
    arena_extend_strategy: Literal[0, 1] | None = None
    cudnn_conv_algo_search: Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"] | None = None
    cudnn_conv_use_max_workspace: bool | None = None
    do_copy_in_default_stream: bool | None = None
    enable_cuda_graph: bool | None = None
    enable_skip_layer_norm_strict_mode: bool | None = None
    use_tf32: bool | None = None
    prefer_nhwc: bool | None = None
    use_ep_level_unified_stream: bool | None = None
    tunable_op_enable: bool | None = None
    tunable_op_tuning_enable: bool | None = None
    max_mem: Annotated[int, Meta(ge=0)] | None = None
    initial_chunk_size_bytes: _Bytes | None = None
    max_dead_bytes_per_chunk: _Bytes | None = None
    initial_growth_chunk_size_bytes: _Bytes | None = None
    library: str = ""


class CudaProvider(AcceleratorProvider):
    """Runs models on NVIDIA GPUs."""

    accelerator = _CUDA
    device_types = ("GPU",)
    requirements = requirements("onnxruntime-gpu[cuda,cudnn]==1.31.1", "onnxruntime-genai-cuda==0.18.0", on=_PLATFORMS)
    prerequisites = f"Requires NVIDIA's driver: {_CUDA.link}"
    options_type = CudaOptions

    def target(self, model: ModelFiles, device: Device, options: CudaOptions) -> "Target":
        """Select the device, and format the options for both libraries, which use different names.

        Raises:
            LoadError: The provider or the device is not available on this machine.
        """
        from cupola_providers.runtime.loading import select_target  # noqa: PLC0415

        given = {"device_id": str(device.index), **format_options(options)}
        native = {"device_id": given["device_id"], **_arena_by_name(format_options(options, without=_OF_GENAI))}
        return select_target(_CUDA, model, device, given, native_options=native)


def _arena_by_name(options: dict[str, str]) -> dict[str, str]:
    """Replace the number of the arena strategy, which onnxruntime-genai takes, by ONNX Runtime's name."""
    names = {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"}
    key = "arena_extend_strategy"
    return options | ({key: names[options[key]]} if key in options else {})


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the CUDA execution provider."""
    return [CudaProvider()]
