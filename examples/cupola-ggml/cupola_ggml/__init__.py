"""An execution provider that runs models on ggml, through onnxruntime-ggml."""

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from cupola.provider import Device, ExecutionProvider, Limits, ModelFiles, ProviderReport, Session, Settings, hookimpl


class GgmlOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.ggml]`.

    Attributes:
        device: The ggml backend. "auto" uses a GPU if there is one.
        threads: The number of CPU threads; 0 for the number of cores.
    """

    device: Literal["auto", "gpu", "cpu"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0


class GgmlProvider(ExecutionProvider):
    """Runs models on ggml."""

    name = "ggml"
    device_types = ("CPU",)
    requirements = ("onnxruntime==1.30.0", "onnxruntime-ggml==0.2.0", "tokenizers>=0.21,<1")
    prerequisites = "A GPU needs Vulkan or Metal."
    options_type = GgmlOptions

    def probe(self) -> ProviderReport:
        """Report the one device that ggml registers, the CPU, whichever backend computes."""
        try:
            import onnxruntime  # noqa: PLC0415 - the service must not import a runtime
            import onnxruntime_ggml  # noqa: PLC0415

            onnxruntime_ggml.devices()
        except (ImportError, OSError, RuntimeError) as error:
            return ProviderReport(self.name, problem=str(error), remedy="cupola provider install ggml")
        versions = {"onnxruntime": onnxruntime.__version__, "onnxruntime-ggml": onnxruntime_ggml.__version__}
        return ProviderReport(self.name, (Device(self.name, "CPU", "ggml"),), versions)

    def load(self, model: ModelFiles, device: Device, options: GgmlOptions, limits: Limits) -> Session:  # noqa: ARG002
        """Load a model.

        Raises:
            LoadError: ggml or ONNX Runtime cannot load the model.
            ModelFormatError: The model's files are damaged.
        """
        from cupola_ggml.session import GgmlSession  # noqa: PLC0415

        return GgmlSession(model, options, limits)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Contribute the provider."""
    return [GgmlProvider()]
