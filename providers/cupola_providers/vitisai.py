"""AMD's Ryzen AI NPUs, through Vitis AI. Its library comes with Windows ML or from AMD, not from pip."""

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

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
from cupola_providers.runtime.accelerator import RUNTIME, WINDOWS_X64, Accelerator, requirements, written

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


class VitisAiProvider(ExecutionProvider):
    """Runs models on AMD's NPUs."""

    name = _VITISAI.name
    alias = _VITISAI.alias
    device_types = ("NPU",)
    requirements = requirements(*RUNTIME, on=_PLATFORMS)
    prerequisites = (
        f"Its library comes with Windows ML or AMD's installer; providers.vitisai.library names it: {_VITISAI.link}"
    )
    options_type = VitisAiOptions

    def environment(self, options: VitisAiOptions) -> Mapping[str, str]:
        """Name the library that the settings name."""
        return _VITISAI.library_environment(options.library)

    def probe(self) -> ProviderReport:
        """Report the devices, or what is in the way."""
        from cupola_providers.runtime.devices import report  # noqa: PLC0415 - the service imports no runtime

        return report(_VITISAI)

    def load(
        self, model: ModelFiles, device: Device, options: VitisAiOptions, limits: Limits
    ) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError, ModelFormatError: With what to do about it.
        """
        from cupola_providers.runtime.opening import open_on, target_on  # noqa: PLC0415

        given = written(options, ("library",))
        native = {key: value for key, value in given.items() if key != "external_ep_libray"}
        return open_on(target_on(_VITISAI, model, device, given, native_options=native), model, limits)


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring Vitis AI."""
    return [VitisAiProvider()]
