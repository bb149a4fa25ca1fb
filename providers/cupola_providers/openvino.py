"""The OpenVINO execution provider, for Intel CPUs, GPUs and NPUs."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    LINUX_X64,
    RUNTIME,
    WINDOWS_X64,
    Accelerator,
    AcceleratorProvider,
    format_options,
    requirements,
)

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target

_PLATFORMS = (LINUX_X64, WINDOWS_X64)
_OPENVINO = Accelerator(
    name="OpenVINOExecutionProvider",
    alias="openvino",
    genai_name="OpenVINO",
    platforms=_PLATFORMS,
    packages=("onnxruntime_ep_openvino",),
    needs="Intel CPU, GPU or NPU",
    link="https://docs.openvino.ai/install",
    built_in={kind: {"device_type": kind} for kind in ("NPU", "GPU", "CPU")},
)


class OpenVinoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.openvino]`. Options that are not set keep OpenVINO's default.

    Attributes:
        num_of_threads: Threads on a CPU device; all cores by default. Ignored for other devices.
        num_streams: Parallel inference streams; 1 by default, which gives the lowest latency.
        precision: Arithmetic precision; the device's preferred precision by default.
        model_priority: Priority of this model on a shared device; DEFAULT by default.
        cache_dir: Folder for compiled models, which makes later starts faster. Nothing is cached if not set.
        load_config: OpenVINO's own properties by device as JSON, or the path of a .json file with them.
        reshape_input: Fixed input shapes for devices that require them, "input_ids[1,1024]".
        enable_qdq_optimizer: Whether quantise and dequantise nodes are rewritten for an NPU; off by default.
        enable_opencl_throttling: Whether a GPU reduces its use of the CPU; off by default.
        enable_causallm: Whether OpenVINO manages the KV cache itself; off by default.
        hint_enable_gqa: Whether OpenVINO computes GroupQueryAttention; otherwise the CPU does. On by default.
        library: Path of a plugin library to use instead of the package's, such as the copy of Windows ML.
    """

    num_of_threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    num_streams: Annotated[int, Meta(ge=1, le=255)] | None = None
    precision: Literal["FP32", "FP16", "ACCURACY"] | None = None
    model_priority: Literal["LOW", "MEDIUM", "HIGH", "DEFAULT"] | None = None
    cache_dir: str | None = None
    load_config: str | None = None
    reshape_input: str | None = None
    enable_qdq_optimizer: bool | None = None
    enable_opencl_throttling: bool | None = None
    enable_causallm: bool | None = None
    hint_enable_gqa: bool = True
    library: str = ""


class OpenVinoProvider(AcceleratorProvider):
    """Runs models on Intel's devices."""

    accelerator = _OPENVINO
    device_types = ("NPU", "GPU", "CPU")
    requirements = requirements(*RUNTIME, "onnxruntime-ep-openvino==1.8.1", on=_PLATFORMS)
    prerequisites = f"GPUs and NPUs require Intel's drivers: {_OPENVINO.link}"
    options_type = OpenVinoOptions

    def target(self, model: ModelFiles, device: Device, options: OpenVinoOptions) -> "Target":
        """Select the device, and set how attention stores its KV cache there.

        Raises:
            LoadError: The provider or the device is not available on this machine.
        """
        from cupola_providers.runtime.loading import select_target  # noqa: PLC0415

        given = format_options(options, format_bool=str)
        target = select_target(_OPENVINO, model, device, given, shares_cache=not options.hint_enable_gqa)
        if target.device is None:  # an ONNX Runtime that was built with it takes no node at all with that option
            known = {key: value for key, value in target.options.items() if key != "hint_enable_gqa"}
            target = replace(target, options=known, shares_cache=True)
        return target


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the OpenVINO execution provider."""
    return [OpenVinoProvider()]
