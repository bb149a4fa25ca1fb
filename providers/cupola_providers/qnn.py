"""The QNN execution provider, for Qualcomm NPUs and GPUs; on x86-64 it runs a simulator of the NPU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    LINUX_ARM64,
    LINUX_X64,
    RUNTIME,
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
_QNN = Accelerator(
    name="QNNExecutionProvider",
    alias="qnn",
    genai_name="QNN",
    platforms=_PLATFORMS,
    packages=("onnxruntime_qnn",),
    simulator="simulator of the NPU",
    needs="Qualcomm NPU or GPU",
    link="https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html",
)
_BACKENDS: dict[str, str] = {"NPU": "htp", "GPU": "gpu", "CPU": "htp"}


class QnnOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.qnn]`. Options that are not set keep QNN's default.

    Attributes:
        backend_type: QNN backend; chosen by the device type if not set. htp is the NPU.
        backend_path: Path of a backend library, as an alternative to backend_type.
        htp_performance_mode: Performance and power profile of the NPU; "default" by default.
        htp_graph_finalization_optimization_mode: Effort spent on optimizing the graph, 1 to 3; 0 uses QNN's default.
        htp_arch: Architecture of the NPU to compile for, 68 to 81; the device's own by default.
        soc_model: Qualcomm's number of the chip; 0, the default, means unknown.
        vtcm_mb: NPU memory (VTCM) that a graph may use, in MB; all of it by default.
        device_id: Which NPU; 0 by default.
        qnn_context_priority: Priority of this model on a shared device; "normal" by default.
        enable_htp_fp16_precision: Whether float32 graphs are computed in float16; on by default.
        enable_htp_shared_memory_allocator: Whether inputs and outputs use shared memory; off by default.
        enable_htp_spill_fill_buffer: Whether graphs share one buffer for what does not fit on the NPU; off by default.
        offload_graph_io_quantization: Whether another provider quantises inputs and outputs; on by default.
        extended_udma: Whether the NPU moves data in its extended mode; off by default.
        rpc_control_latency: Latency of remote procedure calls, in microseconds.
        op_packages: Custom operator packages, in QNN's notation.
        profiling_level: Level of profiling; "off" by default.
        profiling_file_path: File for the profile.
        library: Path of a plugin library to use instead of the package's, such as the copy of Windows ML.
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
    prerequisites = (
        "The NPU driver is part of the operating system on Snapdragon machines; x86-64 machines get a simulator."
    )
    options_type = QnnOptions

    def target(self, model: ModelFiles, device: Device, options: QnnOptions) -> "Target":
        """Select the device, and its backend if the options name none.

        Raises:
            LoadError: The provider or the device is not available on this machine.
        """
        from cupola_providers.runtime.loading import select_target  # noqa: PLC0415

        given = format_options(options)
        if options.backend_type is None and options.backend_path is None:
            given["backend_type"] = _BACKENDS[device.type]
        return select_target(_QNN, model, device, given)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the QNN execution provider."""
    return [QnnProvider()]
