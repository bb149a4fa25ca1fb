"""Reads cached models again and compares them with their manifests. Everything here blocks: call it in a thread."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from anyio import from_thread

from cupola.cache import Progress, ProgressEvent, Verification
from cupola_plugins.filesystem import manifest as manifests
from cupola_plugins.filesystem.folders import ModelFolder
from cupola_plugins.filesystem.manifest import MANIFEST, FileRecord, Manifest

_READ_BYTES = 1 << 20


class Meter:
    """Adds up what was worked through, tells the event loop now and then, and notices cancellation.

    Args:
        progress: Told on the event loop.
        phase: As in `ProgressEvent`.
        total_bytes: All there is to do.
    """

    _STEP_BYTES = 8 << 20

    def __init__(self, progress: Progress, phase: str, total_bytes: int) -> None:
        self._progress, self._phase, self._total = progress, phase, total_bytes
        self._done = self._told = 0
        self._tell()

    def advance(self, size_bytes: int) -> None:
        """Take note of more."""
        from_thread.check_cancelled()
        self._done += size_bytes
        if self._done - self._told >= self._STEP_BYTES or self._done >= self._total:
            self._tell()

    def _tell(self) -> None:
        self._told = self._done
        from_thread.run_sync(self._progress, ProgressEvent(self._phase, min(self._done, self._total), self._total))


def read_manifest(folder: ModelFolder) -> Manifest | str:
    """Read a model's manifest, or say why that cannot be done."""
    try:
        return manifests.decode((folder.path / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        return f"{MANIFEST}: {error}"


def verify(folders: list[tuple[ModelFolder, str]], progress: Progress) -> list[Verification]:
    """Compare every file of every model with its record.

    Args:
        folders: Each with the model's id, for those without a manifest of ours.
        progress: Told on the event loop, with the phase "verify".
    """
    read = [(folder, name, read_manifest(folder) if folder.manifest == MANIFEST else None) for folder, name in folders]
    meter = Meter(progress, "verify", sum(found.size_bytes for _, _, found in read if isinstance(found, Manifest)))
    results = []
    for folder, name, found in read:
        if isinstance(found, Manifest):
            faults = tuple(_faults(folder.path, found, meter))
            results.append(Verification(found.model.id, str(folder.path), faults))
        elif found is None:
            results.append(Verification(name, str(folder.path), has_digests=False))
        else:
            results.append(Verification(name, str(folder.path), (found,)))
    return results


def digest(path: Path, meter: Meter, use: Callable[[bytes], object] | None = None) -> tuple[int, str]:
    """Return the size and the sha256 of a file; `use` is handed every piece on the way."""
    size, found = 0, hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
            size += len(data)
            if use is not None:
                use(data)
            meter.advance(len(data))
    return size, found.hexdigest()


def difference(record: FileRecord, size_bytes: int, sha256: str) -> str:
    """Say how a file differs from its record; nothing if it does not."""
    if size_bytes != record.size_bytes:
        return f"{record.path}: {size_bytes:,} bytes instead of {record.size_bytes:,}"
    return f"{record.path}: other content, sha256 {sha256}" if sha256 != record.sha256 else ""


def _faults(root: Path, manifest: Manifest, meter: Meter) -> Iterator[str]:
    for record in manifest.files:
        try:
            fault = difference(record, *digest(root / record.path, meter))
        except OSError as error:
            fault = f"{record.path}: {error.strerror or error}"
        if fault:
            yield fault
