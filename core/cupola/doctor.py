"""Inspects the machine: versions, memory, disks, and whether each execution provider is usable, or why not."""

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import anyio
import psutil
from msgspec import Struct

from cupola.contracts import Device, ModelInfo
from cupola.engine import Engine
from cupola.environments import Diagnosis, diagnose
from cupola.placement import runs_on

_LISTING_TIMEOUT_S = 2.0  # for catalogs that send requests
_PACKAGES = ("cupola", "onnxruntime", "onnxruntime-genai", "llguidance", "numpy")


class Disk(Struct, frozen=True):
    """A folder that Cupola writes to, and the space on its disk.

    Attributes:
        use: What the folder is for, such as "Models".
    """

    use: str
    path: str
    free_bytes: int
    total_bytes: int


class MachineReport(Struct, frozen=True):
    """The result of `inspect_machine`.

    Attributes:
        versions: The versions of Python and of the packages in Cupola's own environment, by name.
        system: Name, release and architecture of the operating system.
        cores, threads: Physical CPU cores, and logical ones.
        memory_bytes, memory_available_bytes: The installed memory, and what new processes can use of it.
        models: The ids of the listed variants that each usable provider can run, by the provider's name.
        warnings: Problems that do not concern a provider.
    """

    versions: dict[str, str]
    system: str
    cores: int
    threads: int
    memory_bytes: int
    memory_available_bytes: int
    disks: tuple[Disk, ...]
    providers: tuple[Diagnosis, ...]
    models: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()


async def inspect_machine(engine: Engine) -> MachineReport:
    """Inspect the machine and probe all providers at the same time, each in a process of its own.

    Takes up to `machine.probe_timeout_s`, and two seconds more for the catalogs. Cancellation ends the probes.
    """
    listed: list[ModelInfo] = []
    warnings: list[str] = []

    await engine.inventory.refresh(everything=True)
    with anyio.move_on_after(_LISTING_TIMEOUT_S) as limit:
        listed.extend([status.info for status in await engine.models()])
    if limit.cancelled_caught:
        warnings.append(f"The catalogs did not answer within {_LISTING_TIMEOUT_S:g} s, so no models are listed.")
    providers = tuple(diagnose(engine.inventory, entry) for entry in engine.inventory.providers)
    memory = psutil.virtual_memory()
    return MachineReport(
        versions={"python": platform.python_version(), **_package_versions()},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        threads=os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        disks=tuple(_disk(use, path) for use, path in engine.folders().items()),
        providers=providers,
        models={p.name: _runnable_ids(p.devices, listed) for p in providers if p.status == "usable"},
        warnings=(*warnings, *_python_warning()),
    )


def _runnable_ids(devices: Sequence[Device], listed: Sequence[ModelInfo]) -> tuple[str, ...]:
    return tuple(info.id for info in listed if any(runs_on(info, device) for device in devices))


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _python_warning() -> Sequence[str]:
    is_32_bit = sys.maxsize < 2**32
    return ["This is a 32-bit Python. ONNX Runtime needs a 64-bit one."] if is_32_bit else []


def _disk(use: str, path: Path) -> Disk:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    return Disk(use, str(path), usage.free, usage.total)
