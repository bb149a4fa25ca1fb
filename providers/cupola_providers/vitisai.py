"""AMD's Ryzen AI NPUs, through Vitis AI. Its library comes with Windows ML or from AMD, not from pip."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from cupola.provider import Device, ExecutionProvider, ModelFiles, Settings, hookimpl
from cupola_providers.runtime.accelerated import AcceleratorProvider
from cupola_providers.runtime.accelerator import RUNTIME, WINDOWS_X64, Accelerator, requirements, written

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
    """The table `[providers.vitisai]`. What is not set is left to Vitis AI.

    Attributes:
        library: The plugin library, as Windows ML's catalogue or AMD's installer put it on the machine.
        config_file: Vitis AI's own settings as a .json file.
        cache_dir: Folder for compiled models, from which a second start is quicker.
        cache_key: Name of this model's folder there.
        external_ep_library: A further library of AMD's that onnxruntime-genai loads, on Windows.
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
        f"Its library comes with Windows ML or AMD's installer; providers.vitisai.library names it: {_VITISAI.link}"
    )
    options_type = VitisAiOptions

    def target(self, model: ModelFiles, device: Device, options: VitisAiOptions) -> "Target":
        """Choose the device, without what onnxruntime-genai alone reads for plain ONNX Runtime.

        Raises:
            LoadError: It cannot be used here.
        """
        from cupola_providers.runtime.opening import target_on  # noqa: PLC0415

        given = written(options)
        native = {key: value for key, value in given.items() if key != "external_ep_libray"}
        return target_on(_VITISAI, model, device, given, native_options=native)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring Vitis AI."""
    return [VitisAiProvider()]
