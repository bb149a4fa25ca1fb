"""What distinguishes one accelerator's execution provider from another. Imports no runtime: the service reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from cupola.provider import DeviceType

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
"""The runtime that plugin libraries were tried with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """An execution provider of ONNX Runtime for an accelerator. What its probing and loading have in common is shared.

    Attributes:
        name: ONNX Runtime's name of it.
        alias: The name that people type.
        genai_name: onnxruntime-genai's name of it, as a genai_config.json has it.
        platforms: Where its packages run.
        needs: The devices it runs on, for people, to follow "found no".
        link: Where the driver or software is to be had that pip cannot bring.
        packages: Import names of packages that hold it as a plugin library, each with `get_library_path()`.
        driver_libraries: Libraries that come with the driver: if one is missing, no package mends that.
        genai_library: Stem of a library that onnxruntime-genai must have been built with, "onnxruntime-genai-cuda".
        built_in: For an ONNX Runtime that was built with it, the options that choose each type of device.
        index_key: The option that counts devices of a built-in one, "device_id".
        simulator: What it offers on a processor, if that is no device of its own.
        preloads: Whether ONNX Runtime has to be told to load the libraries that its packages bring.
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
        """The command that brings its packages, or renews them."""
        return f"cupola provider install {self.alias}"

    @property
    def library_variable(self) -> str:
        """The environment variable that names its library, where no package brings it."""
        return f"EP_LIBRARY_{self.alias.upper().replace('-', '_')}"

    def library_environment(self, library: str) -> dict[str, str]:
        """Return the environment in which a worker takes this library instead of a package's."""
        return {self.library_variable: library} if library else {}


def requirements(*packages: str, on: tuple[Platform, ...]) -> tuple[str, ...]:
    """Return packages as pip takes them, for some platforms alone."""
    where = " or ".join(f"(sys_platform == '{system}' and platform_machine == '{machine}')" for system, machine in on)
    return tuple(f"{package}; {where}" for package in packages)


def written(
    options: Struct, *, without: tuple[str, ...] = (), said: Callable[[bool], str] | None = None
) -> dict[str, str]:
    """Write options as the libraries take them: by the provider's own keys, as text. None is left to the provider.

    Args:
        options: A Struct whose fields are called, or encoded, as the provider calls them; `library` is not for it.
        without: Further fields that are not.
        said: How the provider wants to be told yes and no; "1" and "0" by default.
    """
    texts: dict[str, str] = {}
    for one in msgspec.structs.fields(options):
        value: Any = getattr(options, one.name)
        if one.name in ("library", *without) or value is None:
            continue
        if isinstance(value, bool):
            texts[one.encode_name] = said(value) if said else str(int(value))
        elif isinstance(value, tuple):
            texts[one.encode_name] = ",".join(value)
        else:
            texts[one.encode_name] = str(value)
    return texts
