"""The provider of an accelerator, but for what is its own. Imports no runtime at the top: the service reads it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cupola.provider import Device, EmbeddingSession, ExecutionProvider, Limits, ModelFiles, ProviderReport, Session
from cupola_providers.runtime.accelerator import Accelerator, written

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target


class AcceleratorProvider(ExecutionProvider):
    """Runs models on an accelerator that ONNX Runtime has an execution provider for.

    The settings of every one have a field `library`, the path of a plugin library to take instead of a package's.

    Attributes:
        accelerator: Which; it gives the provider's names.
    """

    accelerator: ClassVar[Accelerator]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.accelerator.name

    @property
    def alias(self) -> str:
        """The short name people type."""
        return self.accelerator.alias

    def environment(self, options: Any) -> Mapping[str, str]:
        """Name the library that the settings name."""
        return self.accelerator.library_environment(options.library)

    def probe(self) -> ProviderReport:
        """Report the devices, or what is in the way."""
        from cupola_providers.runtime.devices import report  # noqa: PLC0415

        return report(self.accelerator)

    def load(self, model: ModelFiles, device: Device, options: Any, limits: Limits) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError, ModelFormatError: With what to do about it.
        """
        from cupola_providers.runtime.opening import open_on  # noqa: PLC0415

        return open_on(self.target(model, device, options), model, limits)

    def target(self, model: ModelFiles, device: Device, options: Any) -> "Target":
        """Choose the device, with the options as they are written. Providers that are told otherwise override it.

        Raises:
            LoadError: It cannot be used here.
        """
        from cupola_providers.runtime.opening import target_on  # noqa: PLC0415

        return target_on(self.accelerator, model, device, written(options))
