"""Intel's processors, graphics and NPUs, through OpenVINO's plugin for ONNX Runtime."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerated import AcceleratorProvider
from cupola_providers.runtime.accelerator import (
    LINUX_X64,
    RUNTIME,
    WINDOWS_X64,
    Accelerator,
    requirements,
    written,
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
    needs="Intel processor, graphics or NPU",
    link="https://docs.openvino.ai/install",
    built_in={kind: {"device_type": kind} for kind in ("NPU", "GPU", "CPU")},
)


class OpenVinoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.openvino]`. What is not set is left to OpenVINO.

    Attributes:
        num_of_threads: Threads of the processor; OpenVINO takes all cores. Only for the type CPU.
        num_streams: Parallel streams of inference; 1 by default, for least latency.
        precision: Arithmetic of the device; OpenVINO takes what the device is best at.
        model_priority: Of this model among those that share a device; DEFAULT by default.
        cache_dir: Folder for compiled models, from which a second start is quicker. Nothing is kept without it.
        load_config: OpenVINO's own properties by device as JSON, or the path of a .json file with them.
        reshape_input: Fixed shapes for devices that want them, "input_ids[1,1024]".
        enable_qdq_optimizer: Whether quantise and dequantise nodes are rewritten for an NPU; off by default.
        enable_opencl_throttling: Whether a GPU leaves the processor more time; off by default.
        enable_causallm: Whether OpenVINO keeps the KV cache itself; off by default.
        hint_enable_gqa: Whether it computes the attention as well, without which the processor does; on by default.
        library: The plugin library, instead of the package's: of Windows ML's own copy, say.
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
    prerequisites = f"Graphics and NPUs want Intel's drivers: {_OPENVINO.link}"
    options_type = OpenVinoOptions

    def target(self, model: ModelFiles, device: Device, options: OpenVinoOptions) -> "Target":
        """Choose the device, and how attention keeps its cache there.

        Raises:
            LoadError: It cannot be used here.
        """
        from cupola_providers.runtime.opening import target_on  # noqa: PLC0415

        given = written(options, said=str)
        target = target_on(_OPENVINO, model, device, given, shares_cache=not options.hint_enable_gqa)
        if target.device is None:  # an ONNX Runtime that was built with it takes no node at all with that option
            known = {key: value for key, value in target.options.items() if key != "hint_enable_gqa"}
            target = replace(target, options=known, shares_cache=True)
        return target


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring OpenVINO."""
    return [OpenVinoProvider()]
