"""Virtual environments of peers: made once, kept in the platform's cache folder, remade when what they hold changes."""

import hashlib
import subprocess
import sys
from pathlib import Path

import anyio
import platformdirs

from cupola_server.bench.adapters import Adapter
from cupola_server.bench.client import PeerError

_INSTALL_S = 900.0
_ENDING_BYTES = 300


async def python_for(adapter: Adapter) -> Path:
    """Return an interpreter with what an adapter needs; installs it if need be.

    Raises:
        PeerError: It cannot be installed here.
    """
    if adapter.own_interpreter:
        return Path(sys.executable)
    folder = environment_of(adapter)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    whole = folder / "whole"
    if not whole.exists():
        await _run(adapter, sys.executable, "-m", "venv", "--clear", str(folder))
        plain = [each for each in adapter.requirements if _bare(each) not in adapter.without_dependencies]
        alone = [each for each in adapter.requirements if each not in plain]
        for packages, flags in ((plain, []), (alone, ["--no-deps"])):
            if packages:
                await _run(adapter, str(python), "-m", "pip", "install", "--quiet", *flags, *packages)
        whole.touch()
    return python


def environment_of(adapter: Adapter) -> Path:
    """Return the folder of an adapter's environment; another one for other packages."""
    packages = hashlib.sha256("\n".join((*adapter.requirements, sys.version)).encode()).hexdigest()[:12]
    return Path(platformdirs.user_cache_dir("cupola", appauthor=False)) / "peers" / f"{adapter.name}-{packages}"


async def _run(adapter: Adapter, *command: str) -> None:
    Path(environment_of(adapter)).parent.mkdir(parents=True, exist_ok=True)
    try:
        with anyio.fail_after(_INSTALL_S):
            done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    except TimeoutError:
        detail = f"it was not installed within {_INSTALL_S:g} s"
        raise PeerError(name=adapter.name, detail=detail) from None
    if done.returncode:
        told = done.stdout.decode("utf-8", "replace").strip()[-_ENDING_BYTES:]
        raise PeerError(name=adapter.name, detail=f"it cannot be installed: {told}")


def _bare(requirement: str) -> str:
    return requirement.partition("==")[0].partition(">")[0].strip()
