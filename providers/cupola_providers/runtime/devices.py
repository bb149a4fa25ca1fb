"""Finding the devices of an accelerator, or the reason why there are none and what mends it. Imported in workers."""

import importlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, NamedTuple

from cupola.provider import Device, DeviceType, ProviderReport
from cupola_providers.runtime.accelerator import PLATFORM_NAMES, Accelerator

_MISSING_LIBRARY = re.compile(r"([\w.+-]+\.(?:so[\w.]*|dll|dylib)): cannot open|([\w.+-]+\.dll)\W")
_TITLES = ("FULL_DEVICE_NAME", "Description")  # keys of what a device says about itself


class Trouble(NamedTuple):
    """Why an accelerator cannot be used here, and the one command or address that mends it."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device, and how it is chosen.

    Attributes:
        device: As people see it.
        native: Its `OrtEpDevice`; None if the provider is a part of ONNX Runtime itself.
        options: What chooses it then.
    """

    device: Device
    native: Any = None
    options: Mapping[str, str] = field(default_factory=dict)


def report(accelerator: Accelerator) -> ProviderReport:
    """Report the devices of an accelerator. Never raises."""
    found = find_devices(accelerator)
    if isinstance(found, Trouble):
        sentence = found.problem[:1].upper() + found.problem[1:].rstrip(". ") + "."
        return ProviderReport(accelerator.name, (), _versions(accelerator), sentence, found.remedy)
    return ProviderReport(accelerator.name, tuple(one.device for one in found), _versions(accelerator))


def find_devices(accelerator: Accelerator) -> list[FoundDevice] | Trouble:
    """Find the devices of an accelerator; its library is registered in ONNX Runtime and onnxruntime-genai by that."""
    here = (sys.platform, platform.machine())
    if here not in accelerator.platforms:
        made_for = ", ".join(PLATFORM_NAMES[one] for one in accelerator.platforms)
        here_is = PLATFORM_NAMES.get(here, " on ".join(here))
        return Trouble(f"it is made for {made_for}; this is {here_is}", accelerator.link)
    try:
        import onnxruntime  # noqa: F401, PLC0415 - an installation that is broken is to be reported
        import onnxruntime_genai  # noqa: F401, PLC0415
    except (ImportError, OSError) as error:
        return Trouble(f"ONNX Runtime cannot be imported: {error}", accelerator.install_command)
    found = _found(accelerator)
    if isinstance(found, Trouble):
        return found
    if accelerator.genai_library and not _genai_has(accelerator.genai_library):
        return Trouble(f"onnxruntime-genai has no {accelerator.genai_library} here", accelerator.install_command)
    return found or Trouble(f"it found no {accelerator.needs}", accelerator.link)


def _found(accelerator: Accelerator) -> list[FoundDevice] | Trouble:
    """Ask the plugin library, or else ONNX Runtime itself."""
    import onnxruntime as ort  # noqa: PLC0415

    try:
        if library := _library(accelerator):
            _register(accelerator, library)
            return list(_plugged_in(accelerator))
    except Exception as error:  # noqa: BLE001 - vendors' packages raise anything, the bindings `Exception` itself
        return _explained(accelerator, str(error))
    if accelerator.name in ort.get_available_providers():
        return _built_in(accelerator)
    return Trouble("its packages are not installed here", accelerator.install_command)


def _library(accelerator: Accelerator) -> str:
    """Return the path of the plugin library; empty if there is none."""
    if named := os.environ.get(accelerator.library_variable):
        if not Path(named).is_file():
            raise FileNotFoundError(f"there is no library {named}; providers.{accelerator.alias}.library names it")
        return named
    for name in accelerator.packages:
        if importlib.util.find_spec(name):
            return str(importlib.import_module(name).get_library_path())
    return ""


def _register(accelerator: Accelerator, library: str) -> None:
    """Make both libraries know the provider; neither asks the other."""
    import onnxruntime as ort  # noqa: PLC0415
    import onnxruntime_genai as og  # noqa: PLC0415

    for register in (ort.register_execution_provider_library, og.register_execution_provider_library):
        try:
            register(accelerator.name, library)
        except Exception as error:
            if "already registered" not in str(error):
                raise


def _plugged_in(accelerator: Accelerator) -> Iterator[FoundDevice]:
    import onnxruntime as ort  # noqa: PLC0415

    counts: dict[DeviceType, int] = {}
    for native in ort.get_ep_devices():
        kind: DeviceType = native.device.type.name
        if native.ep_name == accelerator.name and not native.device.metadata.get("is_virtual"):
            index = counts[kind] = counts.get(kind, -1) + 1
            title = accelerator.simulator if kind == "CPU" and accelerator.simulator else _title(native)
            yield FoundDevice(Device(accelerator.name, kind, title, index), native)


def _title(native: Any) -> str:
    said = {**native.device.metadata, **native.ep_metadata}
    named = next((said[key] for key in _TITLES if said.get(key)), "")
    return named or f"{native.device.vendor} {native.device.type.name}"


def _built_in(accelerator: Accelerator) -> list[FoundDevice] | Trouble:
    """Try a built-in provider: nothing but a graph that runs tells what there is."""
    from cupola_providers.runtime.trying import problem_on  # noqa: PLC0415 - needs ONNX Runtime

    if accelerator.preloads:
        import onnxruntime as ort  # noqa: PLC0415

        ort.preload_dlls()
    found, problems = [], []
    for kind, options in accelerator.built_in.items():
        if problem := problem_on(accelerator.name, options):
            problems.append(problem)
        else:
            found.append(FoundDevice(Device(accelerator.name, kind, f"{accelerator.alias} {kind}"), options=options))
    return found or _explained(accelerator, problems[0])


def _explained(accelerator: Accelerator, message: str) -> Trouble:
    """Say what the refusal of a library means."""
    message = message.strip().split("\n", 1)[0][:300]
    for driver in accelerator.driver_libraries:
        if driver in message:
            return Trouble(f"its driver is missing: there is no {driver}", accelerator.link)
    if missing := _MISSING_LIBRARY.search(message):
        return Trouble(f"the library {missing[1] or missing[2]} is missing ({message})", accelerator.install_command)
    return Trouble(message, accelerator.link)


def _genai_has(stem: str) -> bool:
    import onnxruntime_genai  # noqa: PLC0415

    folder = Path(onnxruntime_genai.__file__).parent
    return any(folder.glob(f"*{stem}.*"))


def _versions(accelerator: Accelerator) -> dict[str, str]:
    """Return the versions of what is installed for an accelerator, by the names of distributions."""
    by_package = packages_distributions()
    packages = ("onnxruntime", "onnxruntime_genai", *accelerator.packages)
    return {name: version(name) for package in packages for name in by_package.get(package, ())}
