"""Discovery of an accelerator's devices, or the problem and its remedy. Imported in workers only."""

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
_TITLES = ("FULL_DEVICE_NAME", "Description")  # metadata keys of a device's name


class DeviceProblem(NamedTuple):
    """Why an accelerator is not available, and the command or web page of the remedy."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device of an accelerator, and how to select it.

    Attributes:
        device: The device as users see it.
        native: Its `OrtEpDevice`; None for a provider that is built into ONNX Runtime.
        options: Provider options that select it in that case.
    """

    device: Device
    native: Any = None
    options: Mapping[str, str] = field(default_factory=dict)


def report(accelerator: Accelerator) -> ProviderReport:
    """Report the devices of an accelerator. Never raises."""
    found = find_devices(accelerator)
    if isinstance(found, DeviceProblem):
        sentence = found.problem[:1].upper() + found.problem[1:].rstrip(". ") + "."
        return ProviderReport(accelerator.name, (), _versions(accelerator), sentence, found.remedy)
    return ProviderReport(accelerator.name, tuple(one.device for one in found), _versions(accelerator))


def find_devices(accelerator: Accelerator) -> list[FoundDevice] | DeviceProblem:
    """Return the devices of an accelerator. Registers its library in ONNX Runtime and onnxruntime-genai."""
    here = (sys.platform, platform.machine())
    if here not in accelerator.platforms:
        made_for = ", ".join(PLATFORM_NAMES[one] for one in accelerator.platforms)
        here_is = PLATFORM_NAMES.get(here, " on ".join(here))
        return DeviceProblem(f"it supports {made_for}; this machine runs {here_is}", accelerator.link)
    try:
        import onnxruntime  # noqa: F401, PLC0415 - a broken installation must be reported
        import onnxruntime_genai  # noqa: F401, PLC0415
    except (ImportError, OSError) as error:
        return DeviceProblem(f"ONNX Runtime cannot be imported: {error}", accelerator.install_command)
    found = _find(accelerator)
    if isinstance(found, DeviceProblem):
        return found
    if accelerator.genai_library and not _genai_has(accelerator.genai_library):
        return DeviceProblem(
            f"the installed onnxruntime-genai contains no {accelerator.genai_library}", accelerator.install_command
        )
    return found or DeviceProblem(f"it found no {accelerator.needs}", accelerator.link)


def try_provider(provider: str, options: Mapping[str, str]) -> str:
    """Run a graph of one node on a provider, without falling back to the CPU.

    Args:
        provider: ONNX Runtime's name of the execution provider.
        options: Its provider options.

    Returns:
        The error message of ONNX Runtime; empty if the graph ran.
    """
    import numpy as np  # noqa: PLC0415 - needed in workers only
    import onnxruntime as ort  # noqa: PLC0415

    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(_add_graph(), settings, providers=[(provider, dict(options))], enable_fallback=0)
        if provider not in session.get_providers():
            return f"ONNX Runtime cannot load {provider}"
        session.run(None, {"x": np.ones((2, 2), np.float32)})
    except Exception as error:  # noqa: BLE001 - the binding raises subclasses of Exception only
        return str(error) or type(error).__name__
    return ""


def _find(accelerator: Accelerator) -> list[FoundDevice] | DeviceProblem:
    """Query the plugin library, or ONNX Runtime if there is none."""
    import onnxruntime as ort  # noqa: PLC0415

    try:
        if library := _library(accelerator):
            _register(accelerator, library)
            return list(_plugged_in(accelerator))
    except Exception as error:  # noqa: BLE001 - vendors' packages raise anything, the bindings `Exception` itself
        return _describe_failure(accelerator, str(error))
    if accelerator.name in ort.get_available_providers():
        return _built_in(accelerator)
    return DeviceProblem("its packages are not installed", accelerator.install_command)


def _library(accelerator: Accelerator) -> str:
    """Return the path of the plugin library; empty if there is none."""
    if named := os.environ.get(accelerator.library_variable):
        if not Path(named).is_file():
            raise FileNotFoundError(f"the library {named} of providers.{accelerator.alias}.library does not exist")
        return named
    for name in accelerator.packages:
        if importlib.util.find_spec(name):
            return str(importlib.import_module(name).get_library_path())
    return ""


def _register(accelerator: Accelerator, library: str) -> None:
    """Register the plugin library in ONNX Runtime and in onnxruntime-genai, which share no registry."""
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
    metadata = {**native.device.metadata, **native.ep_metadata}
    named = next((metadata[key] for key in _TITLES if metadata.get(key)), "")
    return named or f"{native.device.vendor} {native.device.type.name}"


def _built_in(accelerator: Accelerator) -> list[FoundDevice] | DeviceProblem:
    """Test a built-in provider by running a graph; ONNX Runtime does not list its devices."""
    if accelerator.preloads:
        import onnxruntime as ort  # noqa: PLC0415

        ort.preload_dlls()
    found, problems = [], []
    for kind, options in accelerator.built_in.items():
        if problem := try_provider(accelerator.name, options):
            problems.append(problem)
        else:
            found.append(FoundDevice(Device(accelerator.name, kind, f"{accelerator.alias} {kind}"), options=options))
    return found or _describe_failure(accelerator, problems[0])


def _describe_failure(accelerator: Accelerator, message: str) -> DeviceProblem:
    """Return the problem and the remedy for an error message of a library."""
    message = message.strip().split("\n", 1)[0][:300]
    for driver in accelerator.driver_libraries:
        if driver in message:
            return DeviceProblem(f"its driver is missing ({driver} was not found)", accelerator.link)
    if missing := _MISSING_LIBRARY.search(message):
        return DeviceProblem(
            f"the library {missing[1] or missing[2]} is missing ({message})", accelerator.install_command
        )
    return DeviceProblem(message, accelerator.link)


def _genai_has(stem: str) -> bool:
    import onnxruntime_genai  # noqa: PLC0415

    folder = Path(onnxruntime_genai.__file__).parent
    return any(folder.glob(f"*{stem}.*"))


def _versions(accelerator: Accelerator) -> dict[str, str]:
    """Return the installed versions of an accelerator's distributions, by name."""
    by_package = packages_distributions()
    packages = ("onnxruntime", "onnxruntime_genai", *accelerator.packages)
    return {name: version(name) for package in packages for name in by_package.get(package, ())}


def _add_graph() -> bytes:
    """Serialize a graph that computes y = x + x for a float32 tensor of shape [2, 2]."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - needed in workers only

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
