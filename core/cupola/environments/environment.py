"""The environments on disk: one folder for each provider that needs packages of its own."""

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
from cupola.worker.interpreter import Interpreter, shared_modules
from cupola.worker.killing import kill_group
from cupola.worker.process import detached

if TYPE_CHECKING:
    from packaging.requirements import Requirement


logger = logging.getLogger(__name__)
_RECORD = "cupola.json"
_BUILDING = ".building-"


class EnvironmentRecord(Struct, frozen=True):
    """What an environment was made for. It lies in the environment; without it there is none.

    Attributes:
        provider: "OpenVINOExecutionProvider".
        requirements: As the provider declared them.
        report: What the probe found when it was made.
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
        """Its interpreter."""
        return python_of(self.path)

    def suits(self, requirements: Sequence[str]) -> bool:
        """Say whether it was made for just these requirements, and its interpreter is still there."""
        return self.record.requirements == tuple(requirements) and Path(self.python).exists()


class Environments:
    """The folder of all environments. What it holds is whole: building happens beside, and is renamed into place.

    Args:
        folder: It need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """List the providers that have an environment, damaged ones too; also of plugins that are gone."""
        return sorted(path.name for path in self.folder.glob("[!.]*") if path.is_dir())

    def find(self, alias: str) -> Environment | None:
        """Return a provider's environment; None if it has none."""
        path = self.folder / alias
        try:
            record = msgspec.json.decode((path / _RECORD).read_bytes(), type=EnvironmentRecord)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("The environment in %s is damaged and not used: %s", path, error)
            return None
        return Environment(path, record)

    def remove(self, alias: str) -> bool:
        """Delete a provider's environment, a damaged one too; False if there was none.

        It goes out of the way first, so that it is there either whole or not at all.
        """
        path = self.folder / alias
        if not path.is_dir():
            return False
        with self.building() as spare:
            path.rename(spare / "removed")
        return True

    def commit(self, alias: str, built: Path, record: EnvironmentRecord) -> Environment:
        """Put a finished environment in its place; an older one is deleted."""
        (built / _RECORD).write_bytes(msgspec.json.encode(record))
        self.remove(alias)
        path = self.folder / alias
        built.rename(path)
        return Environment(path, record)

    @contextmanager
    def building(self) -> Iterator[Path]:
        """Lend an empty folder to build in. What is in it when the block ends is deleted.

        What a process left that was killed meanwhile is deleted, too.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{_BUILDING}*"):
            owner = left.name.removeprefix(_BUILDING).partition("-")[0]
            if not (owner.isdigit() and psutil.pid_exists(int(owner))):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{os.getpid()}-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def python_of(environment: Path) -> str:
    """Return the interpreter of a virtual environment."""
    return str(environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


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


_OURS = ("jinja2", "llguidance", "msgspec", "numpy", "onnx", "platformdirs", "pluggy", "psutil")
"""What our core and providers packages import in a worker, beside the ONNX Runtime that a provider brings."""


def applying(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return the requirements that apply to this machine, without their markers.

    Raises:
        ValueError: One is not a requirement as pip takes it.
    """
    parsed = [_parsed(text) for text in requirements]
    return tuple(_plain(each) for each in parsed if each.marker is None or each.marker.evaluate())


def worker_requirements() -> Sequence[str]:
    """Return what our own packages need in a worker, in the versions that Cupola declares."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - takes 20 ms, which every start would pay

    try:
        declared = metadata.requires("cupola") or []
    except metadata.PackageNotFoundError:  # run from a bare source tree
        declared = []
    known = {each.name.lower(): each for each in map(Requirement, declared) if "extra" not in str(each.marker)}
    return [_plain(known[name]) if name in known else name for name in _OURS]


def _parsed(text: str) -> "Requirement":
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no requirement: {error}") from error


def _plain(requirement: "Requirement") -> str:
    requirement.marker = None
    return str(requirement)
