"""The environments on disk: one folder for each provider that needs packages of its own."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from cupola.contracts import ProviderReport

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
