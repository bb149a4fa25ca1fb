"""Finds the folders of models in a cache. Everything here blocks: call it in a thread."""

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
_INCOMPLETE = "download.tmp"  # Foundry Local's sign of a download under way
_DEEPEST = 4  # publisher / model / version folder of Foundry Local, and one to spare
_MOST_CHARACTERS = 150
_UNSAFE = re.compile(r"[^A-Za-z0-9._+ -]|^[. ]|[. ]$")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # device names on Windows


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that says it is a model.

    Attributes:
        path: Where its manifest lies.
        manifest: "cupola.manifest.json", or Foundry Local's by either of its names.
        whole: The folder to remove with it.
        publisher: The folder it is filed under, "" if it lies at the top.
    """

    path: Path
    manifest: str
    whole: Path
    publisher: str


def model_folders(cache: Path) -> list[ModelFolder]:
    """Find every model folder, ours and Foundry Local's, in the order of their paths.

    Raises:
        OSError: The cache folder itself cannot be read. One that does not exist is an empty cache.
    """
    try:
        tops = _subfolders(cache)
    except FileNotFoundError:
        return []
    return [found for top in tops for found in _search(top, cache)]


def folders_named(name: str, cache: Path) -> list[Path]:
    """Find the folders of our own that have this name, whoever their publisher is."""
    try:
        tops = _subfolders(cache)
    except FileNotFoundError:
        return []
    return [top / name for top in tops if (top / name / MANIFEST).is_file()]


def throw_away(path: Path, cache: Path) -> Path:
    """Make a folder vanish at once, into the trash, where it is called as returned; `empty_trash` deletes it.

    Raises:
        OSError: It is still there.
    """
    trash = cache / STAGING / _TRASH
    make_shared(trash)
    return path.rename(trash / uuid.uuid4().hex)


def replace(path: Path, target: Path, cache: Path) -> None:
    """Move a folder into the place of another, which is thrown away, or of none.

    Raises:
        OSError: It stays where it was, and so does the other.
    """
    thrown = throw_away(target, cache) if target.exists() else None
    try:
        path.rename(target)
    except OSError:
        if thrown:
            thrown.rename(target)
        raise


def empty_trash(cache: Path) -> None:
    """Delete what was thrown away, also by a process that ended before it could."""
    trash = cache / STAGING / _TRASH
    if not trash.is_dir():
        return
    for path in trash.iterdir():
        if path.is_symlink():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def make_shared(folder: Path) -> None:
    """Make a folder, and those above it, open to everybody who may write to the nearest one that is there."""
    if folder.is_dir():
        return
    make_shared(folder.parent)
    folder.mkdir(exist_ok=True)
    share(folder)


def drop_what_others_hold(folder: Path) -> None:
    """Remove what another user's download left and would not let us go on with."""
    for path in folder.rglob("*"):
        if path.is_file() and not os.access(path, os.W_OK):
            path.unlink()


def size_of(folder: Path) -> int:
    """Add up the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _search(folder: Path, cache: Path) -> list[ModelFolder]:
    parts = folder.relative_to(cache).parts
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 - names are enough, and this is the hot part of a listing
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
    """Go up from "v4" to the model's own folder, as long as nothing but this model is in it."""
    while len(folder.relative_to(cache).parts) > 2 and len(_subfolders(folder.parent)) == 1:
        folder = folder.parent
    return folder


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def model_folder_name(model_id: str) -> str:
    """Return "phi-4-generic-cpu-3" for "phi-4-generic-cpu:3", as Foundry Local does; no version counts as 0."""
    name, _, version = model_id.rpartition(":")
    return safe_name(f"{name}-{version}" if name and version.isdecimal() else f"{model_id}-0")


def publisher_folder_name(publisher: str) -> str:
    """Return the folder that the publisher's models share."""
    return safe_name(publisher or "unknown")


def safe_name(text: str) -> str:
    """Make a name that is one folder on every system, and different for different texts of ordinary length."""
    name = _UNSAFE.sub(_escaped, text)
    if _RESERVED.fullmatch(name):
        name = "%" + name
    if len(name) > _MOST_CHARACTERS:
        name = f"{name[:_MOST_CHARACTERS]}%{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
