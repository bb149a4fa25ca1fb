"""Graphics on Windows of any maker, through DirectML."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerated import AcceleratorProvider
from cupola_providers.runtime.accelerator import WINDOWS_X64, Accelerator, requirements, written

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target

_PLATFORMS = (WINDOWS_X64,)
_DIRECTML = Accelerator(
    name="DmlExecutionProvider",
    alias="directml",
    genai_name="DML",
    platforms=_PLATFORMS,
    needs="graphics with Direct3D 12",
    link="https://learn.microsoft.com/windows/ai/directml/dml",
    built_in={"GPU": {}},
)


class DirectMlOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.directml]`. What is not set is left to DirectML.

    Attributes:
        device_index: Which adapter, in the order of the system; by default that of the placement.
        luid: The adapter by the system's locally unique id, "HIGH:LOW", instead of its number.
        enable_graph_capture: Whether commands are recorded once and repeated; on by default. Some devices compute
            wrongly then.
        library: The plugin library, if there is one.
    """

    device_index: Annotated[int, Meta(ge=0)] | None = None
    luid: Annotated[str, Meta(pattern=r"^-?\d+:\d+$")] | None = None
    enable_graph_capture: bool | None = None
    library: str = ""


class DirectMlProvider(AcceleratorProvider):
    """Runs models on any graphics of a Windows machine."""

    accelerator = _DIRECTML
    device_types = ("GPU",)
    requirements = requirements("onnxruntime-directml==1.24.4", "onnxruntime-genai-directml==0.13.0", on=_PLATFORMS)
    prerequisites = "It wants Windows 10 or later, and the driver of the graphics by its maker."
    options_type = DirectMlOptions

    def target(self, model: ModelFiles, device: Device, options: DirectMlOptions) -> "Target":
        """Choose the device, which onnxruntime-genai and plain ONNX Runtime number under different names.

        Raises:
            LoadError: It cannot be used here.
        """
        from cupola_providers.runtime.opening import target_on  # noqa: PLC0415

        given = written(options)
        if options.luid is None:
            given.setdefault("device_index", str(device.index))
        native = {"device_id": given.get("device_index", "0")}
        return target_on(_DIRECTML, model, device, given, native_options=native)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring DirectML."""
    return [DirectMlProvider()]
