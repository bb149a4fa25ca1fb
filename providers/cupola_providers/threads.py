"""How many compute threads this process may well use."""

import os

import psutil


def usable_cores() -> int:
    """Count the physical cores, or the processors this process may run on if they are fewer."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    allowed = len(affinity()) if affinity else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
