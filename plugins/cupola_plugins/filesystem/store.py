"""The filesystem cache store, and its staging folders."""

import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

import aiofiles
import msgspec
from anyio import CancelScope, CapacityLimiter, to_thread

from cupola.cache import CachedModel, CacheStore, ModelInfo, Progress, Staging, Verification
from cupola.errors import CacheError, DiskFullError, ModelFormatError
from cupola_plugins.filesystem import bundle, folders, foundry, verification
from cupola_plugins.filesystem import manifest as manifests
from cupola_plugins.filesystem.folders import (
    STAGING,
    ModelFolder,
    empty_trash,
    make_shared,
    model_folder_name,
    publisher_folder_name,
    replace,
)
from cupola_plugins.filesystem.lock import FileLock
from cupola_plugins.filesystem.manifest import FOUNDRY_MANIFEST, GENAI_CONFIG, MANIFEST, Manifest

logger = logging.getLogger(__name__)
T = TypeVar("T")


class FilesystemCache(CacheStore):
    """Models as plain folders. Several processes and users can share a cache; listing needs no write permission."""

    name: ClassVar[str] = "filesystem"

    def __init__(self, location: Path) -> None:
        self._location = location
        self._limiter = CapacityLimiter(4)
        self._reported: set[tuple[Path, str]] = set()
        self._foundry = foundry.Listing(location)

    @property
    def location(self) -> Path:
        """The cache folder."""
        return self._location

    async def list(self) -> Sequence[CachedModel]:
        """List the complete models, reading only manifests. Of two with the same id, the first in path order."""
        found: dict[str, CachedModel] = {}
        for _, model in await self._models():
            found.setdefault(model.info.id, model)
        return [*found.values()]

    async def find(self, model_id: str) -> CachedModel | None:
        """Return the model with exactly this id, None if there is none."""
        for path in await self._in_thread(folders.folders_named, model_folder_name(model_id), self._location):
            model = await self._read(ModelFolder(path, MANIFEST, path, path.parent.name))
            if model and model.info.id == model_id:
                return model
        return next((model for model in await self.list() if model.info.id == model_id), None)

    async def reserve(self, model: ModelInfo) -> Staging:
        """Open the staging folder of a model. Waits while another task or process holds it, cancellably."""
        path = self._location / STAGING / model_folder_name(model.id)
        await self._in_thread(make_shared, path.parent)
        lock = FileLock(path.with_name(path.name + ".lock"))
        try:
            await lock.acquire()
            await self._in_thread(self._prepare, path, model)
        except OSError as error:
            raise CacheError.from_os(error, self._location) from error
        except BaseException:
            lock.release()
            raise
        return FilesystemStaging(path, model, self._location, lock=lock, limiter=self._limiter)

    async def remove(self, model_id: str) -> bool:
        """Delete a model, also a broken one. It is no longer listed before its files are deleted."""
        candidates = await self._in_thread(folders.model_folders, self._location)
        wanted = [folder for folder in candidates if await self._in_thread(self._name_of, folder) == model_id]
        for folder in wanted:
            await self._in_thread(folders.move_to_trash, folder.whole, self._location)
        await self._in_thread(folders.empty_trash, self._location)
        return bool(wanted)

    async def verify(self, model_id: str | None, progress: Progress) -> Sequence[Verification]:
        """Compare the files of one or all models with their manifests, including broken models that are not listed.

        Foundry Local's models have no digests: they are only reported as present.
        """
        candidates = await self._in_thread(folders.model_folders, self._location)
        wanted = []
        for folder in candidates:
            name = await self._in_thread(self._name_of, folder)
            if model_id is None or name == model_id:
                wanted.append((folder, name))
        return await self._in_thread(verification.verify, wanted, progress)

    async def export(self, model_id: str, file: Path, progress: Progress) -> None:
        """Write a model to one file and verify its digests. The file appears when it is complete."""
        found = next((pair for pair in await self._models() if pair[1].info.id == model_id), None)
        if found is None:
            raise CacheError(path=str(self._location), detail=f"it holds no model {model_id!r}")
        folder, cached = found
        try:
            manifest = await to_thread.run_sync(_manifest_of, folder, cached.info, limiter=self._limiter)
            await to_thread.run_sync(bundle.write_bundle, folder.path, manifest, file, progress, limiter=self._limiter)
        except OSError as error:
            raise CacheError.from_os(error, file.parent, needed_bytes=cached.size_bytes) from error

    async def import_file(self, file: Path, progress: Progress) -> CachedModel:
        """Import a model from a file that `export` wrote. It is staged, verified and committed like a download."""
        try:
            manifest = await to_thread.run_sync(bundle.read_bundle_manifest, file, limiter=self._limiter)
        except OSError as error:
            raise ModelFormatError(path=str(file), detail=f"cannot be read: {error.strerror or error}") from error
        if cached := await self.find(manifest.model.id):
            return cached
        async with await self.reserve(manifest.model) as staging:
            await staging.discard()
            try:
                await self._in_thread(self._require_disk_space, staging.path, manifest.size_bytes)
                await self._in_thread(bundle.unpack_bundle, file, manifest, staging.path, progress)
                return await staging.commit()
            except BaseException:
                with CancelScope(shield=True):
                    await staging.discard()
                raise

    def _name_of(self, folder: ModelFolder) -> str:
        """Return the id of a model, "" if its manifest cannot be read."""
        try:
            data = (folder.path / folder.manifest).read_bytes()
            if folder.manifest == MANIFEST:
                return manifests.decode(data).model.id
            return foundry.describe(data, b"{}", publisher="", size_bytes=0).id
        except (OSError, msgspec.DecodeError):
            return ""

    async def _models(self) -> Sequence[tuple[ModelFolder, CachedModel]]:
        candidates = await self._in_thread(folders.model_folders, self._location)
        read = [(folder, await self._read(folder)) for folder in candidates]
        return [(folder, model) for folder, model in read if model is not None]

    async def _read(self, folder: ModelFolder) -> CachedModel | None:
        """Read a model's manifest. If the model is incomplete, log a warning and return None."""
        try:
            data = await _content(folder.path / folder.manifest)
            if folder.manifest != MANIFEST:
                return await self._read_foreign(folder, data)
            manifest = manifests.decode(data)
            missing = await to_thread.run_sync(manifests.missing_file, folder.path, manifest, limiter=self._limiter)
        except FileNotFoundError:
            return None  # removed since the folder was found
        except (OSError, msgspec.DecodeError) as error:
            self._report(folder.path, str(error))
            return None
        if missing is not None:
            self._report(folder.path, f"{missing} is missing or was changed")
            return None
        return CachedModel(manifest.model, folder.path / manifest.root, manifest.size_bytes)

    async def _read_foreign(self, folder: ModelFolder, data: bytes) -> CachedModel:
        config = await _content(folder.path / GENAI_CONFIG)
        size_bytes = await to_thread.run_sync(folders.folder_size_bytes, folder.path, limiter=self._limiter)
        info = foundry.describe(data, config, publisher=folder.publisher, size_bytes=size_bytes)
        info = await to_thread.run_sync(self._foundry.add_listed_fields, info, limiter=self._limiter)
        return CachedModel(info, folder.path, size_bytes)

    def _report(self, path: Path, reason: str) -> None:
        """Log a broken folder once per reason."""
        if (path, reason) not in self._reported:
            self._reported.add((path, reason))
            logger.warning("Skipped the broken model in %s: %s. Remove the folder and download it again.", path, reason)

    def _prepare(self, path: Path, model: ModelInfo) -> None:
        make_shared(path)
        folders.remove_unwritable_files(path)
        folders.empty_trash(self._location)
        self._require_disk_space(path, model.size_bytes - folders.folder_size_bytes(path))

    def _require_disk_space(self, path: Path, needed_bytes: int) -> None:
        free_bytes = shutil.disk_usage(path).free
        if free_bytes < needed_bytes:
            raise DiskFullError(
                path=str(self._location),
                detail="the model does not fit",
                needed_bytes=needed_bytes,
                free_bytes=free_bytes,
            )

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        """Run blocking disk access in a thread and turn `OSError` into `CacheError`."""
        try:
            return await to_thread.run_sync(call, *args, limiter=self._limiter)
        except OSError as error:
            raise CacheError.from_os(error, self._location) from error


class FilesystemStaging(Staging):
    """A folder under `.staging`, locked by a file next to it."""

    def __init__(self, path: Path, model: ModelInfo, cache: Path, *, lock: FileLock, limiter: CapacityLimiter) -> None:
        self.path = path
        self._model = model
        self._cache = cache
        self._lock = lock
        self._limiter = limiter

    async def commit(self) -> CachedModel:
        """Record size and digest of every file, flush them, and rename the folder into place.

        The model is not listed until the rename. If the process is killed, the next `reserve` finds the staged files.


        Raises:
            CacheError: A write failed; `DiskFullError` if the disk is full.
            ModelFormatError: There is no genai_config.json in the folder.
        """
        try:
            manifest = await to_thread.run_sync(manifests.record, self.path, self._model, limiter=self._limiter)
            if manifest is None:
                raise ModelFormatError(path=str(self.path), detail=f"the download contains no {GENAI_CONFIG}")
            await _write(self.path / manifest.root / FOUNDRY_MANIFEST, manifests.encode_for_foundry(self._model))
            await _write(self.path / MANIFEST, manifests.encode(manifest))
            folder = await to_thread.run_sync(self._move_into_place, manifest, limiter=self._limiter)
        except OSError as error:
            raise CacheError.from_os(error, self._cache) from error
        self._lock.release()
        return CachedModel(self._model, folder / manifest.root, manifest.size_bytes)

    async def discard(self) -> None:
        """Delete the staged files. The folder stays reserved."""
        await to_thread.run_sync(shutil.rmtree, self.path, True, limiter=self._limiter)
        await to_thread.run_sync(self._make_folder, limiter=self._limiter)

    async def release(self) -> None:
        """Release the lock. Does not wait, so a cancelled task can call it."""
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


def _manifest_of(folder: ModelFolder, model: ModelInfo) -> Manifest:
    """Return a model's manifest, or create one for a model of Foundry Local."""
    if folder.manifest == MANIFEST:
        return manifests.decode((folder.path / MANIFEST).read_bytes())
    return manifests.describe(folder.path, model)


async def _content(path: Path) -> bytes:
    async with aiofiles.open(path, "rb") as file:
        return await file.read()


def _refuse_other_model(target: Path, model: ModelInfo) -> None:
    """Raise if the folder holds a model with another id, for example "tiny" and "tiny:0"."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        other = manifests.decode((target / MANIFEST).read_bytes()).model.id
        if other != model.id:
            raise FileExistsError(errno.EEXIST, f"{target} already holds {other!r}. Remove that model first")


async def _write(path: Path, content: bytes) -> None:
    async with aiofiles.open(path, "wb") as file:
        await file.write(content)
    await to_thread.run_sync(manifests.flush, path)
