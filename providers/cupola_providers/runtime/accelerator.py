"""The base class of accelerator providers, and the description of an accelerator. Imports no runtime library."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import Struct

from cupola.provider import (
    Device,
    DeviceType,
    EmbeddingSession,
    ExecutionProvider,
    Limits,
    ModelFiles,
    ProviderReport,
    Session,
)

if TYPE_CHECKING:
    from cupola_providers.runtime.target import Target


Platform = tuple[str, str]
"""`sys.platform` and `platform.machine()`."""

LINUX_X64: Platform = ("linux", "x86_64")
LINUX_ARM64: Platform = ("linux", "aarch64")
MAC_ARM64: Platform = ("darwin", "arm64")
WINDOWS_X64: Platform = ("win32", "AMD64")
WINDOWS_ARM64: Platform = ("win32", "ARM64")

PLATFORM_NAMES = {
    LINUX_X64: "Linux on x86-64",
    LINUX_ARM64: "Linux on ARM64",
    MAC_ARM64: "macOS on ARM64",
    WINDOWS_X64: "Windows on x86-64",
    WINDOWS_ARM64: "Windows on ARM64",
}

RUNTIME = ("onnxruntime==1.32.0", "onnxruntime-genai==0.18.0")
"""The versions of the runtime that the plugin libraries were tested with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Description of an accelerator's execution provider in ONNX Runtime, used for probing and loading.

    Attributes:
        name: Name in ONNX Runtime, "CUDAExecutionProvider".
        alias: Short name for commands and settings, "cuda".
        genai_name: Name in onnxruntime-genai and in genai_config.json.
        platforms: Platforms that its packages support.
        needs: The required device, as in "found no NVIDIA GPU".
        link: Web page of the driver or software that pip cannot install.
        packages: Import names of packages with a plugin library, each with `get_library_path()`.
        driver_libraries: Libraries of the driver. If one is missing, the driver must be installed.
        genai_library: File stem of a library that onnxruntime-genai requires, "onnxruntime-genai-cuda".
        built_in: Provider options by device type, for builds of ONNX Runtime that contain the provider.
        index_key: Option that selects the device of a built-in provider, "device_id".
        simulator: Name of its CPU device, if that is a simulator.
        preloads: Whether `onnxruntime.preload_dlls()` must be called to load the libraries of its packages.
    """

    name: str
    alias: str
    genai_name: str
    platforms: tuple[Platform, ...]
    needs: str
    link: str
    packages: tuple[str, ...] = ()
    driver_libraries: tuple[str, ...] = ()
    genai_library: str = ""
    built_in: Mapping[DeviceType, Mapping[str, str]] = field(default_factory=dict)
    index_key: str = ""
    preloads: bool = False
    simulator: str = ""

    @property
    def install_command(self) -> str:
        """The command that installs or updates its packages."""
        return f"cupola provider install {self.alias}"

    @property
    def library_variable(self) -> str:
        """The environment variable with the path of its library, if no package contains it."""
        return f"EP_LIBRARY_{self.alias.upper().replace('-', '_')}"

    def library_environment(self, library: str) -> dict[str, str]:
        """Return the environment variables that make a worker use this library instead of a package's."""
        return {self.library_variable: library} if library else {}


def requirements(*packages: str, on: tuple[Platform, ...]) -> tuple[str, ...]:
    """Return pip requirements that apply to the given platforms only."""
    where = " or ".join(f"(sys_platform == '{system}' and platform_machine == '{machine}')" for system, machine in on)
    return tuple(f"{package}; {where}" for package in packages)


def format_options(
    options: Struct, *, without: tuple[str, ...] = (), format_bool: Callable[[bool], str] | None = None
) -> dict[str, str]:
    """Format options as the runtime libraries expect them: text values by the provider's own keys. None is omitted.

    Args:
        options: A Struct whose field names, or encoded names, are the provider's keys; `library` is omitted.
        without: Further fields to omit.
        format_bool: Formats a bool; "1" and "0" by default.
    """
    texts: dict[str, str] = {}
    for one in msgspec.structs.fields(options):
        value: Any = getattr(options, one.name)
        if one.name in ("library", *without) or value is None:
            continue
        if isinstance(value, bool):
            texts[one.encode_name] = format_bool(value) if format_bool else str(int(value))
        elif isinstance(value, tuple):
            texts[one.encode_name] = ",".join(value)
        else:
            texts[one.encode_name] = str(value)
    return texts


class AcceleratorProvider(ExecutionProvider):
    """Base class of the execution providers for accelerators that ONNX Runtime supports.

    The options of each subclass have a field `library`: the path of a plugin library to use instead of a package's.

    Attributes:
        accelerator: The description of the accelerator.
    """

    accelerator: ClassVar[Accelerator]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.accelerator.name

    @property
    def alias(self) -> str:
        """Short name for commands and settings."""
        return self.accelerator.alias

    def environment(self, options: Any) -> Mapping[str, str]:
        """Return the environment variable of the configured library."""
        return self.accelerator.library_environment(options.library)

    def probe(self) -> ProviderReport:
        """Report the devices, or the problem and its remedy."""
        from cupola_providers.runtime.devices import report  # noqa: PLC0415

        return report(self.accelerator)

    def load(self, model: ModelFiles, device: Device, options: Any, limits: Limits) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError: The runtime cannot load the model; the detail names a remedy.
            ModelFormatError: A file of the model is missing, damaged or unsupported.
        """
        from cupola_providers.runtime.loading import load_on_accelerator  # noqa: PLC0415

        return load_on_accelerator(self.target(model, device, options), model, limits)

    def target(self, model: ModelFiles, device: Device, options: Any) -> "Target":
        """Select the device and format the options. Providers with options of another form override this.

        Raises:
            LoadError: The provider or the device is not available on this machine.
        """
        from cupola_providers.runtime.loading import select_target  # noqa: PLC0415

        return select_target(self.accelerator, model, device, format_options(options))
