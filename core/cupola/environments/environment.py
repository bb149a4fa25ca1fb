"""Virtual environments of execution providers: installing them, finding them, removing them.

Each provider that needs packages of its own has one folder. Environments are built in a temporary folder beside it and
then renamed into place, so that an environment is either complete or absent.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio
import msgspec
import psutil
from msgspec import Struct

from cupola.contracts import ProviderReport
from cupola.environments.probes import probe
from cupola.errors import ProviderInstallError
from cupola.plugins import ProviderEntry
from cupola.settings import Settings
from cupola.worker.launch import Interpreter, detached, kill_group, shared_modules

if TYPE_CHECKING:
    from packaging.requirements import Requirement

logger = logging.getLogger(__name__)
_RECORD = "cupola.json"
_BUILD_PREFIX = ".building-"
_FIRST_PROBE_TIMEOUT_S = 60.0  # the first import compiles modules and reads files that are not in the page cache
_TAIL_LINES = 8
_TAIL_CHARACTERS = 1200
_WORKER_PACKAGES = ("jinja2", "llguidance", "msgspec", "numpy", "onnx", "platformdirs", "pluggy", "psutil")
"""The packages that our core and providers packages import in a worker. ONNX Runtime comes with the provider."""


class EnvironmentRecord(Struct, frozen=True):
    """What an environment was made for, stored in its folder. A folder without it is not an environment.

    Attributes:
        provider: "OpenVINOExecutionProvider".
        requirements: The provider's requirements, as it declared them.
        made_at_unix: In seconds since 1970.
        report: The result of the probe after the installation.
    """

    provider: str
    requirements: tuple[str, ...]
    made_at_unix: float
    report: ProviderReport


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment for the workers of one provider."""

    path: Path
    record: EnvironmentRecord

    @property
    def python(self) -> str:
        """The path of its interpreter."""
        return python_path(self.path)

    def satisfies(self, requirements: Sequence[str]) -> bool:
        """Return whether it was made for exactly these requirements and its interpreter exists."""
        return self.record.requirements == tuple(requirements) and Path(self.python).exists()


class Environments:
    """The folder of all environments.

    Args:
        folder: It need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """List the aliases of providers that have an environment, also damaged ones and those of removed plugins."""
        return sorted(path.name for path in self.folder.glob("[!.]*") if path.is_dir())

    def find(self, alias: str) -> Environment | None:
        """Return a provider's environment; None if there is none or it is damaged, which is logged."""
        path = self.folder / alias
        try:
            record = msgspec.json.decode((path / _RECORD).read_bytes(), type=EnvironmentRecord)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("The environment in %s is damaged and is ignored: %s", path, error)
            return None
        return Environment(path, record)

    def remove(self, alias: str) -> bool:
        """Delete a provider's environment, even a damaged one; returns False if there is none.

        It is renamed before it is deleted, so that no other process sees a part of it.
        """
        path = self.folder / alias
        if not path.is_dir():
            return False
        with self.build_folder() as folder:
            path.rename(folder / "removed")
        return True

    def commit(self, alias: str, built: Path, record: EnvironmentRecord) -> Environment:
        """Move a finished environment into place. It replaces an existing one."""
        (built / _RECORD).write_bytes(msgspec.json.encode(record))
        self.remove(alias)
        path = self.folder / alias
        built.rename(path)
        return Environment(path, record)

    @contextmanager
    def build_folder(self) -> Iterator[Path]:
        """Create a temporary folder beside the environments, which is deleted when the block ends.

        Folders of processes that were killed are deleted as well.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in self.folder.glob(f"{_BUILD_PREFIX}*"):
            pid = folder.name.removeprefix(_BUILD_PREFIX).partition("-")[0]
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                shutil.rmtree(folder, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_BUILD_PREFIX}{os.getpid()}-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def install(entry: ProviderEntry, settings: Settings, *, output: IO[bytes] | int) -> Environment:
    """Install a provider's packages into a new environment, which replaces an existing one.

    The environment is kept only if the provider's probe runs in it; a probe that finds no device is a success. If this
    raises or is cancelled, the existing environment remains.

    Args:
        entry: The provider.
        settings: For the location and the probe.
        output: Receives pip's standard output, such as a terminal for progress bars.

    Raises:
        ProviderInstallError: The detail contains the message of pip or of the probe.
    """
    provider = entry.provider
    requirements = _requirements_to_install(entry)
    environments = Environments(settings.environments_dir)
    try:
        with environments.build_folder() as folder:
            built = folder / "venv"
            await _create(entry, built, [*requirements, *worker_requirements()], output)
            report = await _probe_new(entry, settings, built)
            record = EnvironmentRecord(provider.name, provider.requirements, time.time(), report)
            return environments.commit(provider.alias, built, record)
    except OSError as error:
        detail = f"{environments.folder}: {error.strerror or error}. Set machine.dir to a writable folder"
        raise ProviderInstallError(provider=provider.alias, detail=detail) from error


def applicable_requirements(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return the requirements whose markers match this machine, without the markers.

    Raises:
        ValueError: A requirement is invalid (PEP 508).
    """
    parsed = [_parse_requirement(text) for text in requirements]
    return tuple(_without_marker(item) for item in parsed if item.marker is None or item.marker.evaluate())


def worker_requirements() -> Sequence[str]:
    """Return the requirements of our own packages in a worker, with the version ranges that Cupola declares."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - importing it takes 20 ms at every start

    try:
        declared = metadata.requires("cupola") or []
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        declared = []
    known = {item.name.lower(): item for item in map(Requirement, declared) if "extra" not in str(item.marker)}
    return [_without_marker(known[name]) if name in known else name for name in _WORKER_PACKAGES]


def python_path(environment: Path) -> str:
    """Return the path of the interpreter of a virtual environment."""
    return str(environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def _requirements_to_install(entry: ProviderEntry) -> tuple[str, ...]:
    provider = entry.provider
    if not provider.requirements:
        detail = "it needs no environment of its own; it runs in Cupola's"
        raise ProviderInstallError(provider=provider.alias, detail=detail)
    try:
        requirements = applicable_requirements(provider.requirements)
    except ValueError as error:
        raise ProviderInstallError(provider=provider.alias, detail=f"its plugin has a fault: {error}") from error
    if not requirements:
        detail = f"there are no packages of it for this machine. {provider.prerequisites}".strip()
        raise ProviderInstallError(provider=provider.alias, detail=detail)
    return requirements


async def _create(entry: ProviderEntry, built: Path, requirements: list[str], output: IO[bytes] | int) -> None:
    """Create a virtual environment and run pip in it. The service's own pip is preferred, with the user's settings."""
    python = [sys.executable, "-P"]
    has_pip = not (await _run_command([*python, "-m", "pip", "--version"], subprocess.DEVNULL))[0]
    venv = [*python, "-m", "venv", *(["--without-pip"] if has_pip else []), str(built)]
    code, stderr = await _run_command(venv, output)
    if not code:
        pip = [*python, "-m", "pip", "--python", python_path(built)] if has_pip else [python_path(built), "-m", "pip"]
        options = ["--no-input", "--disable-pip-version-check"]
        code, stderr = await _run_command([*pip, "install", *options, *requirements], output)
    if code:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()][-_TAIL_LINES:]
        tail = re.sub(r"(?<=://)[^/@\s]+@", "****@", " | ".join(lines))[-_TAIL_CHARACTERS:]
        raise ProviderInstallError(provider=entry.provider.alias, detail=f"pip failed: {tail or f'exit code {code}'}")


async def _probe_new(entry: ProviderEntry, settings: Settings, built: Path) -> ProviderReport:
    interpreter = Interpreter(python_path(built), shared_modules(entry.reference, entry.distribution))
    finding = await probe(entry, settings, interpreter, timeout_s=_FIRST_PROBE_TIMEOUT_S)
    if not finding.ran:
        detail = f"its packages were installed, but it does not run: {finding.report.problem}"
        raise ProviderInstallError(provider=entry.provider.alias, detail=detail)
    return finding.report


async def _run_command(command: list[str], output: IO[bytes] | int) -> tuple[int, str]:
    """Run a command to its end; returns its exit code and standard error. Cancellation kills it."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    devnull = subprocess.DEVNULL
    process = await anyio.open_process(command, stdin=devnull, stdout=output, env=environment, **detached())
    try:
        assert process.stderr is not None
        stderr = b"".join([chunk async for chunk in process.stderr]).decode(errors="replace")
        return await process.wait(), stderr
    finally:
        await kill_group(process)


def _parse_requirement(text: str) -> "Requirement":
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - see worker_requirements

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is not a valid requirement: {error}") from error


def _without_marker(requirement: "Requirement") -> str:
    requirement.marker = None
    return str(requirement)
