"""Qualcomm's NPUs and graphics, through QNN's plugin for ONNX Runtime; on x86-64, a simulator of the NPU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerated import AcceleratorProvider
from cupola_providers.runtime.accelerator import (
    LINUX_ARM64,
    LINUX_X64,
    RUNTIME,
    WINDOWS_ARM64,
    WINDOWS_X64,
    Accelerator,
    requirements,
    written,
)

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target

_PLATFORMS = (LINUX_X64, LINUX_ARM64, WINDOWS_X64, WINDOWS_ARM64)
_QNN = Accelerator(
    name="QNNExecutionProvider",
    alias="qnn",
    genai_name="QNN",
    platforms=_PLATFORMS,
    packages=("onnxruntime_qnn",),
    simulator="simulator of the NPU",
    needs="Qualcomm NPU or graphics",
    link="https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html",
)
_BACKENDS: dict[str, str] = {"NPU": "htp", "GPU": "gpu", "CPU": "htp"}


class QnnOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.qnn]`. What is not set is left to QNN.

    Attributes:
        backend_type: Which of Qualcomm's backends; by the device's type if not set, htp being the NPU.
        backend_path: Path of a backend's library, instead of its type.
        htp_performance_mode: How fast or how thrifty the NPU runs; "default" by default.
        htp_graph_finalization_optimization_mode: How much work preparing a graph is worth, 1 to 3; 0 is QNN's default.
        htp_arch: Generation of the NPU to prepare graphs for, 68 to 81; by default that of the device.
        soc_model: Number of the chip in Qualcomm's list; 0 by default, which is unknown.
        vtcm_mb: Memory on the NPU that a graph may take, in MB; by default all of it.
        device_id: Which NPU; 0 by default.
        qnn_context_priority: Of this model among those that share the device; "normal" by default.
        enable_htp_fp16_precision: Whether float32 graphs are computed in float16; on by default.
        enable_htp_shared_memory_allocator: Whether inputs and outputs lie in shared memory; off by default.
        enable_htp_spill_fill_buffer: Whether graphs share one buffer for what does not fit on the NPU; off by default.
        offload_graph_io_quantization: Whether another provider quantises inputs and outputs; on by default.
        extended_udma: Whether the NPU moves data in its extended mode; off by default.
        rpc_control_latency: Microseconds that a remote call may wait.
        op_packages: Packages of further operators, in QNN's own notation.
        profiling_level: What is measured; "off" by default.
        profiling_file_path: Where to.
        library: The plugin library, instead of the package's: of Windows ML's own copy, say.
    """

    backend_type: Literal["htp", "gpu", "cpu"] | None = None
    backend_path: str | None = None
    htp_performance_mode: (
        Literal[
            "default",
            "burst",
            "balanced",
            "high_performance",
            "sustained_high_performance",
            "low_balanced",
            "high_power_saver",
            "power_saver",
            "low_power_saver",
            "extreme_power_saver",
        ]
        | None
    ) = None
    htp_graph_finalization_optimization_mode: Annotated[int, Meta(ge=0, le=3)] | None = None
    htp_arch: Annotated[int, Meta(ge=68, le=81)] | None = None
    soc_model: Annotated[int, Meta(ge=0)] | None = None
    vtcm_mb: Annotated[int, Meta(ge=1)] | None = None
    device_id: Annotated[int, Meta(ge=0)] | None = None
    qnn_context_priority: Literal["low", "normal", "normal_high", "high"] | None = None
    enable_htp_fp16_precision: bool | None = None
    enable_htp_shared_memory_allocator: bool | None = None
    enable_htp_spill_fill_buffer: bool | None = None
    offload_graph_io_quantization: bool | None = None
    extended_udma: bool | None = None
    rpc_control_latency: Annotated[int, Meta(ge=0)] | None = None
    op_packages: str | None = None
    profiling_level: Literal["off", "basic", "detailed", "optrace"] | None = None
    profiling_file_path: str | None = None
    library: str = ""


class QnnProvider(AcceleratorProvider):
    """Runs models on Qualcomm's devices."""

    accelerator = _QNN
    device_types = ("NPU", "GPU")
    requirements = requirements(*RUNTIME, "onnxruntime-qnn==2.7.0", on=_PLATFORMS)
    prerequisites = "The NPU's driver comes with the system of a Snapdragon machine; on x86-64 there is a simulator."
    options_type = QnnOptions

    def target(self, model: ModelFiles, device: Device, options: QnnOptions) -> "Target":
        """Choose the device, and the backend for its type if none is set.

        Raises:
            LoadError: It cannot be used here.
        """
        from cupola_providers.runtime.opening import target_on  # noqa: PLC0415

        given = written(options)
        if options.backend_type is None and options.backend_path is None:
            given["backend_type"] = _BACKENDS[device.type]
        return target_on(_QNN, model, device, given)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring QNN."""
    return [QnnProvider()]
