"""Looks over the machine: versions, memory, disks, and whether every execution provider can be used, or why not."""

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

_LISTING_S = 2.0  # a catalog that must ask the network is not waited for longer
_PACKAGES = ("cupola", "onnxruntime", "onnxruntime-genai", "llguidance", "numpy")


class Disk(Struct, frozen=True):
    """A folder that Cupola writes, and the room on its disk."""

    use: str
    path: str
    free_bytes: int
    total_bytes: int


class Checkup(Struct, frozen=True):
    """What the doctor found.

    Attributes:
        versions: Of Python, the system, and the packages in Cupola's own environment.
        cores: Physical ones; `threads` are what the system schedules on.
        models: For each usable provider, by its name, the ids of the listed variants that it runs.
        warnings: What is wrong beside providers.
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


async def examine(engine: Engine) -> Checkup:
    """Probe every provider at once, each in a process of its own, and say what was found. No process stays."""
    listed: list[ModelInfo] = []
    warnings: list[str] = []

    await engine.inventory.refresh(everything=True)
    with anyio.move_on_after(_LISTING_S) as limit:
        listed.extend([status.info for status in await engine.models()])
    if limit.cancelled_caught:
        warnings.append(f"The catalogs gave no answer within {_LISTING_S:g} s, so no model is named here.")
    providers = tuple(diagnose(engine.inventory, entry) for entry in engine.inventory.providers)
    memory = psutil.virtual_memory()
    return Checkup(
        versions={"python": platform.python_version(), **_package_versions()},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        threads=os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        disks=tuple(_disk(use, path) for use, path in engine.folders().items()),
        providers=providers,
        models={each.name: _models_of(each.devices, listed) for each in providers if each.status == "usable"},
        warnings=(*warnings, *_python_warning()),
    )


def _models_of(devices: Sequence[Device], listed: Sequence[ModelInfo]) -> tuple[str, ...]:
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
    return ["This Python is a 32-bit program; ONNX Runtime needs a 64-bit one."] if is_32_bit else []


def _disk(use: str, path: Path) -> Disk:
    existing = next(place for place in (path, *path.parents) if place.exists())
    usage = shutil.disk_usage(existing)
    return Disk(use, str(path), usage.free, usage.total)
