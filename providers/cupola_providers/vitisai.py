"""The Vitis AI execution provider, for AMD Ryzen AI NPUs. Windows ML or AMD installs its library; pip does not."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerator import (
    RUNTIME,
    WINDOWS_X64,
    Accelerator,
    AcceleratorProvider,
    format_options,
    requirements,
)

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target

_PLATFORMS = (WINDOWS_X64,)
_VITISAI = Accelerator(
    name="VitisAIExecutionProvider",
    alias="vitisai",
    genai_name="VitisAI",
    platforms=_PLATFORMS,
    needs="Ryzen AI NPU, or its library: set providers.vitisai.library",
    link="https://ryzenai.docs.amd.com",
)


class VitisAiOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.vitisai]`. Options that are not set keep Vitis AI's default.

    Attributes:
        library: Path of the plugin library that Windows ML or AMD's installer placed on this machine.
        config_file: Path of a JSON file with Vitis AI settings.
        cache_dir: Folder for compiled models, which makes later starts faster.
        cache_key: Name of this model's subfolder.
        external_ep_library: Path of an additional AMD library that onnxruntime-genai loads on Windows.
    """

    library: str = ""
    config_file: str | None = None
    cache_dir: str | None = None
    cache_key: str | None = None
    external_ep_library: str | None = field(default=None, name="external_ep_libray")


class VitisAiProvider(AcceleratorProvider):
    """Runs models on AMD's NPUs."""

    accelerator = _VITISAI
    device_types = ("NPU",)
    requirements = requirements(*RUNTIME, on=_PLATFORMS)
    prerequisites = (
        "Windows ML or AMD's installer provides the library. "
        f"Set providers.vitisai.library to its path: {_VITISAI.link}"
    )
    options_type = VitisAiOptions

    def target(self, model: ModelFiles, device: Device, options: VitisAiOptions) -> "Target":
        """Select the device. Options that only onnxruntime-genai reads are removed for plain ONNX Runtime.

        Raises:
            LoadError: The provider or the device is not available on this machine.
        """
        from cupola_providers.runtime.loading import select_target  # noqa: PLC0415

        given = format_options(options)
        native = {key: value for key, value in given.items() if key != "external_ep_libray"}
        return select_target(_VITISAI, model, device, given, native_options=native)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the Vitis AI execution provider."""
    return [VitisAiProvider()]
