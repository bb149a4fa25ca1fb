"""Ends a process that may have started others."""

import contextlib
import os
import signal
import sys

import anyio
import psutil
from anyio.abc import Process


async def kill_group(process: Process) -> None:
    """Kill a process that leads a group of its own (`detached`), and its group; returns when it is gone."""
    with anyio.CancelScope(shield=True):
        if sys.platform == "win32":
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.aclose()
