"""The folders of models in a cache, and their names. Everything here blocks: call it in a thread."""

import hashlib
import logging
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from cupola_plugins.filesystem.lock import share
from cupola_plugins.filesystem.manifest import FOUNDRY_MANIFEST, GENAI_CONFIG, MANIFEST

logger = logging.getLogger(__name__)
STAGING = ".staging"
_TRASH = ".trash"
_INCOMPLETE = "download.tmp"  # Foundry Local's marker of a running download
_DEEPEST = 4  # Foundry Local uses publisher / model / version; one more level is allowed
_MAX_CHARACTERS = 150
_UNSAFE = re.compile(r"[^A-Za-z0-9._+ -]|^[. ]|[. ]$")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # device names on Windows


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with a manifest.

    Attributes:
        path: The folder of the manifest.
        manifest: The file name of the manifest: "cupola.manifest.json", or one of Foundry Local's two names.
        whole: The folder to remove with the model.
        publisher: The name of its top folder, "" if it is at the top itself.
    """

    path: Path
    manifest: str
    whole: Path
    publisher: str


def model_folders(cache: Path) -> list[ModelFolder]:
    """Return every model folder, of Cupola and of Foundry Local, in path order; none if the cache does not exist.

    Raises:
        OSError: The cache folder cannot be read.
    """
    try:
        tops = _subfolders(cache)
    except FileNotFoundError:
        return []
    return [found for top in tops for found in _search(top, cache)]


def folders_named(name: str, cache: Path) -> list[Path]:
    """Return Cupola's model folders with this name, from any publisher."""
    try:
        tops = _subfolders(cache)
    except FileNotFoundError:
        return []
    return [top / name for top in tops if (top / name / MANIFEST).is_file()]


def move_to_trash(path: Path, cache: Path) -> Path:
    """Rename a folder into the trash and return its new path. `empty_trash` deletes it later.

    Raises:
        OSError: The folder cannot be moved.
    """
    trash = cache / STAGING / _TRASH
    make_shared(trash)
    return path.rename(trash / uuid.uuid4().hex)


def replace(path: Path, target: Path, cache: Path) -> None:
    """Move a folder to `target`. An existing `target` goes to the trash.

    Raises:
        OSError: The folder cannot be moved. Both folders stay as they were.
    """
    trashed = move_to_trash(target, cache) if target.exists() else None
    try:
        path.rename(target)
    except OSError:
        if trashed:
            trashed.rename(target)
        raise


def empty_trash(cache: Path) -> None:
    """Delete the folders in the trash, including those of processes that ended early."""
    trash = cache / STAGING / _TRASH
    if not trash.is_dir():
        return
    for path in trash.iterdir():
        if path.is_symlink():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def make_shared(folder: Path) -> None:
    """Create a folder and its parents, writable by all who can write to the nearest existing parent."""
    if folder.is_dir():
        return
    make_shared(folder.parent)
    folder.mkdir(exist_ok=True)
    share(folder)


def remove_unwritable_files(folder: Path) -> None:
    """Remove files of another user's download that this user cannot write to, so that the download can resume."""
    for path in folder.rglob("*"):
        if path.is_file() and not os.access(path, os.W_OK):
            path.unlink()


def folder_size_bytes(folder: Path) -> int:
    """Return the total size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def model_folder_name(model_id: str) -> str:
    """Return "phi-4-generic-cpu-3" for "phi-4-generic-cpu:3", as Foundry Local does. The default version is 0."""
    name, _, version = model_id.rpartition(":")
    return safe_name(f"{name}-{version}" if name and version.isdecimal() else f"{model_id}-0")


def publisher_folder_name(publisher: str) -> str:
    """Return the folder name for a publisher."""
    return safe_name(publisher or "unknown")


def safe_name(text: str) -> str:
    """Return a name that is valid as one folder on every system, and differs for different texts of ordinary length."""
    name = _UNSAFE.sub(_escape, text)
    if _RESERVED.fullmatch(name):
        name = "%" + name
    if len(name) > _MAX_CHARACTERS:
        name = f"{name[:_MAX_CHARACTERS]}%{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name


def _search(folder: Path, cache: Path) -> list[ModelFolder]:
    parts = folder.relative_to(cache).parts
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 - only names are needed, and listings spend most time here
    except OSError as error:
        logger.warning("Skipped %s in the model cache: %s", folder, error)
        return []
    publisher = parts[0] if len(parts) > 1 else ""
    if MANIFEST in names:
        return [ModelFolder(folder, MANIFEST, folder, publisher)]
    if _INCOMPLETE in names:
        return []
    if GENAI_CONFIG in names:
        foundry = next((name for name in (FOUNDRY_MANIFEST, f".{FOUNDRY_MANIFEST}") if name in names), None)
        return [ModelFolder(folder, foundry, _whole(folder, cache), publisher)] if foundry else []
    if len(parts) == _DEEPEST:
        return []
    return [found for inner in _subfolders(folder) for found in _search(inner, cache)]


def _whole(folder: Path, cache: Path) -> Path:
    """Return the topmost folder that contains only this model, for "model/v4" usually "model"."""
    while len(folder.relative_to(cache).parts) > 2 and len(_subfolders(folder.parent)) == 1:
        folder = folder.parent
    return folder


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
