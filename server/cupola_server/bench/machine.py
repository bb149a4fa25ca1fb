"""Describes the machine, and tells models apart by a digest of their files."""

import hashlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from cupola_server.bench.noise import Energy
from cupola_server.bench.results import Machine

_PACKAGES = ("cupola", "onnxruntime", "onnxruntime-genai", "numpy", "starlette", "hypercorn", "msgspec", "anyio")
_NOT_MODEL = {"cupola.manifest.json", "inference_model.json"}


def describe() -> Machine:
    """Describe this machine, now."""
    energy = Energy()
    return Machine(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        platform=platform.platform(),
        processor=_processor(),
        cores=cores(),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        energy=energy.problem,
    )


def cores() -> int:
    """Count the physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


def digest_of(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of a model's files; what caches add does not count."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _NOT_MODEL:
            with path.open("rb") as file:
                whole.update(f"{path.relative_to(folder).as_posix()}\0".encode())
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())
