"""The processor of this machine: its name, and the cores that this process may use."""

import os
import platform
import sys
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Return the number of physical cores, or of logical processors in this process's affinity mask if fewer."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not available on macOS
    allowed = len(affinity()) if affinity else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def processor_name() -> str:
    """Return the model name of the processor, as the operating system reports it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
