"""Runs models on ggml, through the execution provider onnxruntime-ggml."""

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, Limits, ModelFiles, ProviderReport, Session, Settings, hookimpl


class GgmlOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.ggml]`.

    Attributes:
        device: Which of ggml's backends; auto takes a GPU where there is one.
        threads: Of the processor; 0 takes as many as there are cores.
    """

    device: Literal["auto", "gpu", "cpu"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0


class GgmlProvider(ExecutionProvider):
    """Runs models on ggml."""

    name = "ggml"
    device_types = ("CPU",)
    requirements = ("onnxruntime==1.30.0", "onnxruntime-ggml==0.2.0", "tokenizers>=0.21,<1")
    prerequisites = "For a GPU it wants Vulkan or Metal."
    options_type = GgmlOptions

    def probe(self) -> ProviderReport:
        """Report what ggml registers: one device, the processor, whichever backend computes."""
        try:
            import onnxruntime  # noqa: PLC0415 - the service imports no runtime
            import onnxruntime_ggml  # noqa: PLC0415

            onnxruntime_ggml.devices()
        except (ImportError, OSError, RuntimeError) as error:
            return ProviderReport(self.name, problem=str(error), remedy="cupola provider install ggml")
        versions = {"onnxruntime": onnxruntime.__version__, "onnxruntime-ggml": onnxruntime_ggml.__version__}
        return ProviderReport(self.name, (Device(self.name, "CPU", "ggml"),), versions)

    def load(self, model: ModelFiles, device: Device, options: GgmlOptions, limits: Limits) -> Session:  # noqa: ARG002
        """Load a model.

        Raises:
            LoadError, ModelFormatError: With what to do about it.
        """
        from cupola_ggml.session import GgmlSession  # noqa: PLC0415

        return GgmlSession(model, options, limits)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring ggml."""
    return [GgmlProvider()]
