"""The filesystem cache store."""

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
    """Models as plain folders. Several processes and users may share one; listing needs no write permission."""

    name: ClassVar[str] = "filesystem"

    def __init__(self, location: Path) -> None:
        self._location = location
        self._limiter = CapacityLimiter(4)
        self._reported: set[tuple[Path, str]] = set()
        self._foundry = foundry.Listing(location)

    @property
    def location(self) -> Path:
        """The folder, for people."""
        return self._location

    async def list(self) -> Sequence[CachedModel]:
        """List every whole model, reading manifests only; of two with one id the first in path order."""
        found: dict[str, CachedModel] = {}
        for _, model in await self._models():
            found.setdefault(model.info.id, model)
        return [*found.values()]

    async def find(self, model_id: str) -> CachedModel | None:
        """Look one model up by its exact id."""
        for path in await self._in_thread(folders.folders_named, model_folder_name(model_id), self._location):
            model = await self._read(ModelFolder(path, MANIFEST, path, path.parent.name))
            if model and model.info.id == model_id:
                return model
        return next((model for model in await self.list() if model.info.id == model_id), None)

    async def reserve(self, model: ModelInfo) -> Staging:
        """Open the staging folder of a model, waiting while another task or process holds it."""
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
        """Delete a model, also a broken one; it is gone for everybody before its files are."""
        candidates = await self._in_thread(folders.model_folders, self._location)
        wanted = [folder for folder in candidates if await self._in_thread(self._name_of, folder) == model_id]
        for folder in wanted:
            await self._in_thread(folders.throw_away, folder.whole, self._location)
        await self._in_thread(folders.empty_trash, self._location)
        return bool(wanted)

    async def verify(self, model_id: str | None, progress: Progress) -> Sequence[Verification]:
        """Read a model, or all of them, again and compare with the manifests; folders that are not listed too.

        Models without a manifest of ours, Foundry Local's, have no digests: it is only said that they are there.
        """
        candidates = await self._in_thread(folders.model_folders, self._location)
        wanted = []
        for folder in candidates:
            name = await self._in_thread(self._name_of, folder)
            if model_id is None or name == model_id:
                wanted.append((folder, name))
        return await self._in_thread(verification.verify, wanted, progress)

    async def export(self, model_id: str, file: Path, progress: Progress) -> None:
        """Write a model into one file, checking every byte on the way; the file appears when it is whole."""
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
        """Take in a model from a file that `export` wrote. Staged, checked and committed as a download is."""
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
        """Return the id of a model, "" if nothing tells it."""
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
        """Read a model's manifest; None, and a line in the log, if the model is not whole."""
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
            self._report(folder.path, f"{missing} is gone or was changed")
            return None
        return CachedModel(manifest.model, folder.path / manifest.root, manifest.size_bytes)

    async def _read_foreign(self, folder: ModelFolder, data: bytes) -> CachedModel:
        config = await _content(folder.path / GENAI_CONFIG)
        size_bytes = await to_thread.run_sync(folders.size_of, folder.path, limiter=self._limiter)
        info = foundry.describe(data, config, publisher=folder.publisher, size_bytes=size_bytes)
        info = await to_thread.run_sync(self._foundry.completed, info, limiter=self._limiter)
        return CachedModel(info, folder.path, size_bytes)

    def _report(self, path: Path, reason: str) -> None:
        """Log a broken folder, once, however often it is listed."""
        if (path, reason) not in self._reported:
            self._reported.add((path, reason))
            logger.warning("Skipped the broken model in %s: %s. Remove the folder and download it again.", path, reason)

    def _prepare(self, path: Path, model: ModelInfo) -> None:
        make_shared(path)
        folders.drop_what_others_hold(path)
        folders.empty_trash(self._location)
        self._require_disk_space(path, model.size_bytes - folders.size_of(path))

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
        """Run what touches the disk in a thread, and explain its faults."""
        try:
            return await to_thread.run_sync(call, *args, limiter=self._limiter)
        except OSError as error:
            raise CacheError.from_os(error, self._location) from error


def _manifest_of(folder: ModelFolder, model: ModelInfo) -> Manifest:
    """Read a model's manifest, or make one for a model that has none of ours."""
    if folder.manifest == MANIFEST:
        return manifests.decode((folder.path / MANIFEST).read_bytes())
    return manifests.describe(folder.path, model)


async def _content(path: Path) -> bytes:
    async with aiofiles.open(path, "rb") as file:
        return await file.read()


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
