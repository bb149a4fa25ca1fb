"""Makes a provider's environment: the packages that apply to this machine, tried out before they are kept."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import anyio

from cupola.contracts import ProviderReport
from cupola.environments.environment import Environment, EnvironmentRecord, Environments, python_of
from cupola.environments.probing import probe
from cupola.environments.requirements import applying, worker_requirements
from cupola.errors import ProviderInstallError
from cupola.plugins import ProviderEntry
from cupola.settings import Settings
from cupola.worker.interpreter import Interpreter, shared_modules
from cupola.worker.killing import kill_group
from cupola.worker.process import detached

_FIRST_PROBE_S = 60.0  # nothing is compiled or in the disk's cache yet
_TAIL_LINES = 8
_TAIL_CHARACTERS = 1200


async def install(entry: ProviderEntry, settings: Settings, *, output: IO[bytes] | int) -> Environment:
    """Install what a provider needs into an environment of its own, in the place of an older one.

    It is kept only if the provider's probe runs in it; finding no device is no failure. Whatever else happens, an
    interruption included, leaves everything as it was.

    Args:
        entry: The provider.
        settings: Where it goes, and for the probe.
        output: Where pip writes what it does, progress bars included if that is a terminal.

    Raises:
        ProviderInstallError: With what pip or the probe said.
    """
    provider = entry.provider
    requirements = applicable(entry)
    environments = Environments(settings.environments_dir)
    try:
        with environments.building() as folder:
            built = folder / "venv"
            await _make(entry, built, [*requirements, *worker_requirements()], output)
            report = await _tried(entry, settings, built)
            record = EnvironmentRecord(provider.name, provider.requirements, time.time(), report)
            return environments.commit(provider.alias, built, record)
    except OSError as error:
        detail = f"{environments.folder}: {error.strerror or error}. Set machine.dir to a folder you may write"
        raise ProviderInstallError(provider=provider.alias, detail=detail) from error


def applicable(entry: ProviderEntry) -> tuple[str, ...]:
    """Return the requirements of a provider that apply to this machine.

    Raises:
        ProviderInstallError: There are none, or they are no requirements.
    """
    provider = entry.provider
    if not provider.requirements:
        detail = "it needs no environment of its own; it runs in Cupola's"
        raise ProviderInstallError(provider=provider.alias, detail=detail)
    try:
        requirements = applying(provider.requirements)
    except ValueError as error:
        raise ProviderInstallError(provider=provider.alias, detail=f"its plugin has a fault: {error}") from error
    if not requirements:
        detail = f"there are no packages of it for this machine. {provider.prerequisites}".strip()
        raise ProviderInstallError(provider=provider.alias, detail=detail)
    return requirements


async def _make(entry: ProviderEntry, built: Path, requirements: list[str], output: IO[bytes] | int) -> None:
    """Make a virtual environment and have the service's own pip install into it, with the user's settings."""
    python = [sys.executable, "-P"]
    has_pip = not (await _ran([*python, "-m", "pip", "--version"], subprocess.DEVNULL))[0]
    code, said = await _ran([*python, "-m", "venv", *(["--without-pip"] if has_pip else []), str(built)], output)
    if not code:
        pip = [*python, "-m", "pip", "--python", python_of(built)] if has_pip else [python_of(built), "-m", "pip"]
        options = ["--no-input", "--disable-pip-version-check"]
        code, said = await _ran([*pip, "install", *options, *requirements], output)
    if code:
        lines = [line.strip() for line in said.splitlines() if line.strip()][-_TAIL_LINES:]
        tail = re.sub(r"(?<=://)[^/@\s]+@", "****@", " | ".join(lines))[-_TAIL_CHARACTERS:]
        raise ProviderInstallError(provider=entry.provider.alias, detail=f"pip failed: {tail or f'exit code {code}'}")


async def _tried(entry: ProviderEntry, settings: Settings, built: Path) -> ProviderReport:
    """Have the provider probed in its new environment."""
    interpreter = Interpreter(python_of(built), shared_modules(entry.reference, entry.distribution))
    finding = await probe(entry, settings, interpreter, timeout_s=_FIRST_PROBE_S)
    if not finding.ran:
        detail = f"its packages are installed, but it does not run: {finding.report.problem}"
        raise ProviderInstallError(provider=entry.provider.alias, detail=detail)
    return finding.report


async def _ran(command: list[str], output: IO[bytes] | int) -> tuple[int, str]:
    """Run a command to its end; returns its exit code and what it wrote to stderr. Cancelling ends it."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    nowhere = subprocess.DEVNULL
    process = await anyio.open_process(command, stdin=nowhere, stdout=output, env=environment, **detached())
    try:
        assert process.stderr is not None
        said = b"".join([chunk async for chunk in process.stderr]).decode(errors="replace")
        return await process.wait(), said
    finally:
        await kill_group(process)
