"""Starting processes: the interpreter of a worker, what it shares with the service, and how processes end."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import anyio
import psutil
from anyio.abc import Process

_OWN_PACKAGES = ("cupola", "cupola_providers")
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_STDERR_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python interpreter of worker processes.

    Attributes:
        python: The executable.
        shared: The top-level modules to import from the service's environment, for `bootstrap`. None means that it is
            the service's own interpreter.
    """

    python: str = sys.executable
    shared: Mapping[str, Mapping[str, Any]] | None = field(default=None)

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the command that runs a module of Cupola."""
        if self.shared is None:
            return [self.python, "-m", module, *arguments]
        return [self.python, "-P", str(_BOOTSTRAP), json.dumps(self.shared), module, *arguments]


def shared_modules(reference: str, distribution: Distribution | None) -> dict[str, dict[str, Any]]:
    """Locate the modules that a worker shares with the service: our packages, and a plugin's whole distribution.

    Args:
        reference: The plugin, "module" or "module:attribute".
        distribution: The plugin's distribution, if known.
    """
    names = [*_OWN_PACKAGES, reference.partition(":")[0].partition(".")[0], *_top_level(distribution)]
    return {name: place for name in dict.fromkeys(names) if (place := _locate(name))}


def detached(*inherited: socket.socket) -> dict[str, Any]:
    """Return subprocess arguments that pass sockets on and keep the terminal's signals away."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True, "pass_fds": [sock.fileno() for sock in inherited]}


def describe_exit(code: int) -> str:
    """Describe how a process ended, from its exit code."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def stderr_tail(file: Path) -> list[str]:
    """Return the end of a process's error output as a part of a sentence; empty if there is none."""
    try:
        text = file.read_bytes()[-_STDERR_TAIL_BYTES:].decode("utf-8", "replace").strip()
    except OSError:
        return []
    return [f"its error output: {text}"] if text else []


async def kill_group(process: Process) -> None:
    """Kill a process started with `detached` and its process group, and wait until it has ended."""
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


def _top_level(distribution: Distribution | None) -> Iterable[str]:
    """List the top-level modules of a distribution; none for our own, whose modules are known."""
    if distribution is None or distribution.name.lower() == _OWN_PACKAGES[0]:
        return ()
    declared = (distribution.read_text("top_level.txt") or "").split()
    files = distribution.files or ()
    packages = [file.parts[0] for file in files if len(file.parts) > 1 and file.suffix in (".py", ".so", ".pyd")]
    modules = [file.name.partition(".")[0] for file in files if len(file.parts) == 1 and file.suffix == ".py"]
    return [name for name in (*declared, *packages, *modules) if name.isidentifier()]


def _locate(name: str) -> dict[str, Any] | None:
    """Locate a top-level module without importing it."""
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin in ("built-in", "frozen"):
        return None
    return {"file": spec.origin if spec.has_location else None, "folders": list(spec.submodule_search_locations or ())}
