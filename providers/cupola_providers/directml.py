"""Graphics on Windows of any maker, through DirectML."""

from collections.abc import Iterable, Mapping
from typing import Annotated

from msgspec import Meta, Struct

from cupola import (
    Device,
    EmbeddingSession,
    ExecutionProvider,
    Limits,
    ModelFiles,
    ProviderReport,
    Session,
    Settings,
    hookimpl,
)
from cupola_providers.runtime.accelerator import WINDOWS_X64, Accelerator, requirements, written

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


class DirectMlProvider(ExecutionProvider):
    """Runs models on any graphics of a Windows machine."""

    name = _DIRECTML.name
    alias = _DIRECTML.alias
    device_types = ("GPU",)
    requirements = requirements("onnxruntime-directml==1.24.4", "onnxruntime-genai-directml==0.13.0", on=_PLATFORMS)
    prerequisites = "It wants Windows 10 or later, and the driver of the graphics by its maker."
    options_type = DirectMlOptions

    def environment(self, options: DirectMlOptions) -> Mapping[str, str]:
        """Name the library that the settings name."""
        return _DIRECTML.library_environment(options.library)

    def probe(self) -> ProviderReport:
        """Report the devices, or what is in the way."""
        from cupola_providers.runtime.devices import report  # noqa: PLC0415 - the service imports no runtime

        return report(_DIRECTML)

    def load(
        self, model: ModelFiles, device: Device, options: DirectMlOptions, limits: Limits
    ) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError, ModelFormatError: With what to do about it.
        """
        from cupola_providers.runtime.opening import open_on, target_on  # noqa: PLC0415

        given = written(options, ("library",))
        if options.luid is None:
            given.setdefault("device_index", str(device.index))
        native = {"device_id": given.get("device_index", "0")}
        return open_on(target_on(_DIRECTML, model, device, given, native_options=native), model, limits)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring DirectML."""
    return [DirectMlProvider()]
