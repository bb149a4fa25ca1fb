"""The DirectML execution provider, for GPUs of any vendor on Windows."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    WINDOWS_X64,
    Accelerator,
    AcceleratorProvider,
    format_options,
    requirements,
)

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target

_PLATFORMS = (WINDOWS_X64,)
_DIRECTML = Accelerator(
    name="DmlExecutionProvider",
    alias="directml",
    genai_name="DML",
    platforms=_PLATFORMS,
    needs="GPU with Direct3D 12",
    link="https://learn.microsoft.com/windows/ai/directml/dml",
    built_in={"GPU": {}},
)


class DirectMlOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.directml]`. Options that are not set keep DirectML's default.

    Attributes:
        device_index: Index of the adapter in the system's order; the placement's device by default.
        luid: The adapter by the system's locally unique id, "HIGH:LOW", instead of its number.
        enable_graph_capture: Whether commands are recorded once and replayed; on by default. Some devices compute
            wrong results with it.
        library: Path of a plugin library, if there is one.
    """

    device_index: Annotated[int, Meta(ge=0)] | None = None
    luid: Annotated[str, Meta(pattern=r"^-?\d+:\d+$")] | None = None
    enable_graph_capture: bool | None = None
    library: str = ""


class DirectMlProvider(AcceleratorProvider):
    """Runs models on any GPU of a Windows machine."""

    accelerator = _DIRECTML
    device_types = ("GPU",)
    requirements = requirements("onnxruntime-directml==1.24.4", "onnxruntime-genai-directml==0.13.0", on=_PLATFORMS)
    prerequisites = "Requires Windows 10 or later and the GPU vendor's driver."
    options_type = DirectMlOptions

    def target(self, model: ModelFiles, device: Device, options: DirectMlOptions) -> "Target":
        """Select the device. onnxruntime-genai and plain ONNX Runtime use different option names for it.

        Raises:
            LoadError: The provider or the device is not available on this machine.
        """
        from cupola_providers.runtime.loading import select_target  # noqa: PLC0415

        given = format_options(options)
        if options.luid is None:
            given.setdefault("device_index", str(device.index))
        native = {"device_id": given.get("device_index", "0")}
        return select_target(_DIRECTML, model, device, given, native_options=native)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the DirectML execution provider."""
    return [DirectMlProvider()]
