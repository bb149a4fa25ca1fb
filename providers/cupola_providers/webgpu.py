"""The WebGPU execution provider (Dawn over Vulkan, Direct3D 12 or Metal), for GPUs of any vendor."""

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import ExecutionProvider, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    LINUX_ARM64,
    LINUX_X64,
    MAC_ARM64,
    RUNTIME,
    WINDOWS_ARM64,
    WINDOWS_X64,
    Accelerator,
    AcceleratorProvider,
    requirements,
)

_PLATFORMS = (LINUX_X64, LINUX_ARM64, WINDOWS_X64, WINDOWS_ARM64, MAC_ARM64)
_WEBGPU = Accelerator(
    name="WebGpuExecutionProvider",
    alias="webgpu",
    genai_name="WebGPU",
    platforms=_PLATFORMS,
    packages=("onnxruntime_ep_webgpu",),
    driver_libraries=("libvulkan.so.1", "vulkan-1.dll"),
    needs="GPU with Vulkan, Direct3D 12 or Metal",
    link="https://vulkan.org/tools",
    built_in={"GPU": {}},
)
_CacheMode = Literal["disabled", "lazyRelease", "simple", "bucket"]


class WebGpuOptions(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The table `[providers.webgpu]`, with the provider's own option names. Options that are not set keep its default.

    Attributes:
        preferred_layout: `preferredLayout`, of tensors; NHWC by default.
        enable_graph_capture: `enableGraphCapture`: whether commands are recorded once and replayed; off by default.
        dawn_backend_type: `dawnBackendType`: the graphics API; the platform's own by default.
        power_preference: `powerPreference`: which adapter is preferred; high-performance by default.
        device_id: `deviceId`: number of a WebGPU device that the process made; 0 is the provider's own, the default.
        validation_mode: `validationMode`: how much commands are checked; basic by default.
        storage_buffer_cache_mode: `storageBufferCacheMode`: how buffers for tensors are kept; bucket by default.
        uniform_buffer_cache_mode: `uniformBufferCacheMode`: the same for parameters; simple by default.
        query_resolve_buffer_cache_mode: `queryResolveBufferCacheMode`: for measurements; disabled by default.
        default_buffer_cache_mode: `defaultBufferCacheMode`: for all others; disabled by default.
        force_cpu_node_names: `forceCpuNodeNames`: nodes to run on the CPU.
        preserve_device: `preserveDevice`: whether the device outlives its last session; off by default.
        kv_cache_quantization_bits: `kvCacheQuantizationBits`: bits per number of the KV cache; 0, for none, by default.
        max_storage_buffer_binding_size: `maxStorageBufferBindingSize` in bytes; the adapter's own by default.
        max_num_pending_dispatches: `maxNumPendingDispatches`: commands sent at once; 16 by default.
        enable_robustness: `enableRobustness`: whether shaders check their indices; off by default.
        enable_int64: `enableInt64`: whether 64-bit integers are computed there; off by default.
        library: Path of a plugin library to use instead of the package's, such as the copy of Windows ML.
    """

    preferred_layout: Literal["NCHW", "NHWC"] | None = None
    enable_graph_capture: bool | None = None
    dawn_backend_type: Literal["Vulkan", "D3D12"] | None = None
    power_preference: Literal["high-performance", "low-power"] | None = None
    device_id: Annotated[int, Meta(ge=0)] | None = None
    validation_mode: Literal["disabled", "wgpuOnly", "basic", "full"] | None = None
    storage_buffer_cache_mode: _CacheMode | None = None
    uniform_buffer_cache_mode: _CacheMode | None = None
    query_resolve_buffer_cache_mode: _CacheMode | None = None
    default_buffer_cache_mode: _CacheMode | None = None
    force_cpu_node_names: str | None = None
    preserve_device: bool | None = None
    kv_cache_quantization_bits: Annotated[int, Meta(ge=0, le=8)] | None = None
    max_storage_buffer_binding_size: Annotated[int, Meta(ge=0)] | None = None
    max_num_pending_dispatches: Annotated[int, Meta(ge=1)] | None = None
    enable_robustness: bool | None = None
    enable_int64: bool | None = None
    library: str = ""


class WebGpuProvider(AcceleratorProvider):
    """Runs models on graphics of any maker."""

    accelerator = _WEBGPU
    device_types = ("GPU",)
    requirements = requirements(*RUNTIME, "onnxruntime-ep-webgpu==0.4.0", on=_PLATFORMS)
    prerequisites = f"Requires the GPU's driver, with Vulkan on Linux: {_WEBGPU.link}"
    options_type = WebGpuOptions


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the WebGPU execution provider."""
    return [WebGpuProvider()]
