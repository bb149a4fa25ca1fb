"""NVIDIA's graphics, through CUDA."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerated import AcceleratorProvider
from cupola_providers.runtime.accelerator import (
    LINUX_ARM64,
    LINUX_X64,
    WINDOWS_ARM64,
    WINDOWS_X64,
    Accelerator,
    requirements,
    written,
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
    needs="NVIDIA graphics",
    link="https://www.nvidia.com/drivers",
    genai_library="onnxruntime-genai-cuda",
    built_in={"GPU": {}},
    preloads=True,
)
_OF_GENAI = ("max_mem", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk", "initial_growth_chunk_size_bytes")
_Bytes = Annotated[int, Meta(ge=-1)]


class CudaOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.cuda]`. What is not set is left to the libraries.

    Attributes:
        device_id: Which graphics; by default that of the placement.
        gpu_mem_limit: Most memory of ONNX Runtime's arena on the device, in bytes; no limit by default.
        arena_extend_strategy: How the arena grows: 0 by powers of two, the default, 1 by what is asked for.
        cudnn_conv_algo_search: How algorithms of convolutions are found; EXHAUSTIVE by default.
        cudnn_conv_use_max_workspace: Whether convolutions take as much memory as helps; on by default.
        do_copy_in_default_stream: Whether copies wait for the computing stream; on by default.
        enable_cuda_graph: Whether kernels are recorded once and repeated; off by default.
        enable_skip_layer_norm_strict_mode: Whether layer normalisation sums in float32; off by default.
        use_tf32: Whether float32 products are computed in TF32; on by default.
        prefer_nhwc: Layout of convolutions; off by default.
        use_ep_level_unified_stream: Whether everything shares one stream; off by default.
        tunable_op_enable, tunable_op_tuning_enable: Whether tuned kernels are used, and tuned here; off by default.
        max_mem, initial_chunk_size_bytes, max_dead_bytes_per_chunk, initial_growth_chunk_size_bytes:
            onnxruntime-genai's own setting of the arena, in bytes; -1 is its default. For `max_mem` 0 is no limit.
        library: The plugin library, if there is one.
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
    """Runs models on NVIDIA's graphics."""

    accelerator = _CUDA
    device_types = ("GPU",)
    requirements = requirements("onnxruntime-gpu[cuda,cudnn]==1.31.1", "onnxruntime-genai-cuda==0.18.0", on=_PLATFORMS)
    prerequisites = f"It wants NVIDIA's driver: {_CUDA.link}"
    options_type = CudaOptions

    def target(self, model: ModelFiles, device: Device, options: CudaOptions) -> "Target":
        """Choose the device, and write the options twice: the library and plain ONNX Runtime call them differently.

        Raises:
            LoadError: It cannot be used here.
        """
        from cupola_providers.runtime.opening import target_on  # noqa: PLC0415

        given = {"device_id": str(device.index), **written(options)}
        native = {"device_id": given["device_id"], **_arena_by_name(written(options, without=_OF_GENAI))}
        return target_on(_CUDA, model, device, given, native_options=native)


def _arena_by_name(options: dict[str, str]) -> dict[str, str]:
    """Name the strategy of the arena as ONNX Runtime does; onnxruntime-genai takes its number."""
    names = {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"}
    key = "arena_extend_strategy"
    return options | ({key: names[options[key]]} if key in options else {})


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring CUDA."""
    return [CudaProvider()]
