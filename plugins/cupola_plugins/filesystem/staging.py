"""The folder in which one model is assembled, and the step that makes it visible."""

import errno
import shutil
from contextlib import suppress
from pathlib import Path

import aiofiles
import msgspec
from anyio import CapacityLimiter, to_thread

from cupola.cache import CachedModel, ModelInfo, Staging
from cupola.errors import CacheError, ModelFormatError
from cupola_plugins.filesystem import manifest as manifests
from cupola_plugins.filesystem.folders import empty_trash, make_shared, replace
from cupola_plugins.filesystem.lock import FileLock
from cupola_plugins.filesystem.manifest import FOUNDRY_MANIFEST, GENAI_CONFIG, MANIFEST, Manifest
from cupola_plugins.filesystem.names import model_folder_name, publisher_folder_name


class FilesystemStaging(Staging):
    """A folder under `.staging`, held by a lock file beside it."""

    def __init__(self, path: Path, model: ModelInfo, cache: Path, *, lock: FileLock, limiter: CapacityLimiter) -> None:
        self.path = path
        self._model = model
        self._cache = cache
        self._lock = lock
        self._limiter = limiter

    async def commit(self) -> CachedModel:
        """Record size and digest of every file, flush them, and rename the folder into place.

        Until the rename nothing is visible; killed at any moment, the next `reserve` finds everything still staged.

        Raises:
            CacheError: A write failed; `DiskFullError` if for lack of space.
            ModelFormatError: There is no genai_config.json in the folder.
        """
        try:
            manifest = await to_thread.run_sync(manifests.record, self.path, self._model, limiter=self._limiter)
            if manifest is None:
                raise ModelFormatError(path=str(self.path), detail=f"what was fetched holds no {GENAI_CONFIG}")
            await _write(self.path / manifest.root / FOUNDRY_MANIFEST, manifests.encode_for_foundry(self._model))
            await _write(self.path / MANIFEST, manifests.encode(manifest))
            folder = await to_thread.run_sync(self._move_into_place, manifest, limiter=self._limiter)
        except OSError as error:
            raise CacheError.from_os(error, self._cache) from error
        self._lock.release()
        return CachedModel(self._model, folder / manifest.root, manifest.size_bytes)

    async def discard(self) -> None:
        """Empty the folder; it stays reserved."""
        await to_thread.run_sync(shutil.rmtree, self.path, True, limiter=self._limiter)
        await to_thread.run_sync(self._make_folder, limiter=self._limiter)

    async def release(self) -> None:
        """Let the next one reserve it. Nothing here waits, so that a cancelled task can."""
        if self._lock.held:
            with suppress(OSError):
                self.path.rmdir()  # only if it is empty
        self._lock.release()

    def _move_into_place(self, manifest: Manifest) -> Path:
        for folder in {self.path / file.path for file in manifest.files}:
            manifests.flush(folder.parent)
        manifests.flush(self.path)
        target = self._cache / publisher_folder_name(self._model.publisher) / model_folder_name(self._model.id)
        make_shared(target.parent)
        _refuse_other_model(target, self._model)
        replace(self.path, target, self._cache)
        manifests.flush(target.parent)
        empty_trash(self._cache)
        return target

    def _make_folder(self) -> None:
        make_shared(self.path)


def _refuse_other_model(target: Path, model: ModelInfo) -> None:
    """Protect a model whose id differs only in ways that folder names do not show, "tiny" and "tiny:0"."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        other = manifests.decode((target / MANIFEST).read_bytes()).model.id
        if other != model.id:
            raise FileExistsError(errno.EEXIST, f"{target} already holds {other!r}; remove that one first")


async def _write(path: Path, content: bytes) -> None:
    async with aiofiles.open(path, "wb") as file:
        await file.write(content)
    await to_thread.run_sync(manifests.flush, path)
