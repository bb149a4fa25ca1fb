"""The files that a catalog source announces: safe target paths, and digests. Everything here blocks."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cupola.contracts import RemoteFile
from cupola.errors import DownloadError

PART_SUFFIX = ".part"
"""The end of the names of partial files."""

_READ_BYTES = 1 << 20
# Backslashes, drive letters, alternate data streams and control characters have a meaning on some system.
_FORBIDDEN = re.compile(r'[\\:<>"|?*\x00-\x1f]')


def target_paths(files: Sequence[RemoteFile], model_id: str, folder: Path) -> list[tuple[RemoteFile, Path]]:
    """Pair every file with its path in the model's folder. File names come from catalogs and are not trusted.

    Raises:
        DownloadError: A name would leave the folder, has another meaning on some system, or is listed twice.
    """
    seen: set[str] = set()
    for file in files:
        problem = _path_problem(file.path) or ("is listed twice" if file.path.lower() in seen else "")
        if problem:
            detail = f"the file name {file.path!r} {problem}. Nothing was downloaded. Do not trust this source."
            raise DownloadError(model=model_id, detail=detail)
        seen.add(file.path.lower())
    return [(file, folder.joinpath(*file.path.split("/"))) for file in files]


class FileDigest:
    """The digest of a file's content, of the kind that the catalog announced: SHA-256, MD5 or none."""

    def __init__(self, file: RemoteFile) -> None:
        self._kind = announced_digest(file).partition(" ")[0]
        self._hash = hashlib.sha256() if file.sha256 else hashlib.md5(usedforsecurity=False)

    @property
    def text(self) -> str:
        """The digest in the format of `announced_digest`."""
        return f"{self._kind} {self._hash.hexdigest()}" if self._kind else ""

    def update(self, path: Path, *, start: int, end: int, check_stopped: Callable[[], None]) -> None:
        """Add the bytes from `start` to `end` of a file. `check_stopped` is called for every block and may raise."""
        if not self._kind:
            return
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < end and (data := file.read(min(_READ_BYTES, end - start))):
                check_stopped()
                self._hash.update(data)
                start += len(data)


def announced_digest(file: RemoteFile) -> str:
    """Return "sha256 12ab...", "md5 34cd...", or "" for a file without digest."""
    if file.sha256:
        return f"sha256 {file.sha256.lower()}"
    return f"md5 {file.md5.lower()}" if file.md5 else ""


def verify_or_delete(path: Path, file: RemoteFile, check_stopped: Callable[[], None]) -> bool:
    """Return whether the complete file exists with the announced size and digest. Any other file is deleted."""
    if not path.exists():
        return False
    if path.stat().st_size == file.size_bytes:
        digest = FileDigest(file)
        digest.update(path, start=0, end=file.size_bytes, check_stopped=check_stopped)
        if digest.text == announced_digest(file):
            return True
    path.unlink()
    return False


def _path_problem(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path or path[1:2] == ":":
        return "leaves the model's folder"
    if _FORBIDDEN.search(path) or any(part != part.rstrip(". ") or not part for part in parts):
        return "is not a plain relative path"
    return f"ends in {PART_SUFFIX}" if path.lower().endswith(PART_SUFFIX) else ""
