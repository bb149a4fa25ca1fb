"""Compares cached models with their manifests. Everything here blocks: call it in a thread."""

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
    """Reports processed bytes to the event loop, at most every 8 MiB, and checks for cancellation.

    Args:
        progress: Called on the event loop.
        phase: The phase of the `ProgressEvent`s.
        total_bytes: The number of bytes to process.
    """

    _STEP_BYTES = 8 << 20

    def __init__(self, progress: Progress, phase: str, total_bytes: int) -> None:
        self._progress, self._phase, self._total = progress, phase, total_bytes
        self._done = self._reported = 0
        self._report()

    def advance(self, size_bytes: int) -> None:
        """Add processed bytes. Raises the cancellation exception if the task was cancelled."""
        from_thread.check_cancelled()
        self._done += size_bytes
        if self._done - self._reported >= self._STEP_BYTES or self._done >= self._total:
            self._report()

    def _report(self) -> None:
        self._reported = self._done
        from_thread.run_sync(self._progress, ProgressEvent(self._phase, min(self._done, self._total), self._total))


def read_manifest(folder: ModelFolder) -> Manifest | str:
    """Return a model's manifest, or the reason why it cannot be read."""
    try:
        return manifests.decode((folder.path / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        return f"{MANIFEST}: {error}"


def verify(folders: list[tuple[ModelFolder, str]], progress: Progress) -> list[Verification]:
    """Compare every file of every model with its record.

    Args:
        folders: Model folders with their ids, which are used if there is no manifest of Cupola.
        progress: Called on the event loop, with the phase "verify".
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
    """Return the size and SHA-256 of a file. `use` is called with every chunk."""
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
    """Return how a file differs from its record, "" if it does not."""
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
