"""Where announced files may be written. Names come from catalogs, so they are not trusted."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cupola.contracts import RemoteFile
from cupola.errors import DownloadError

# Backslashes, drive letters, alternate streams and control characters mean something to some system.
_FORBIDDEN = re.compile(r'[\\:<>"|?*\x00-\x1f]')


def targets(files: Sequence[RemoteFile], model_id: str, folder: Path) -> list[tuple[RemoteFile, Path]]:
    """Pair every file with its place in the folder.

    Raises:
        DownloadError: A name would escape the folder, means something else on another system, or comes twice.
    """
    seen: set[str] = set()
    for file in files:
        problem = _problem(file.path) or ("is listed twice" if file.path.lower() in seen else "")
        if problem:
            raise DownloadError(
                model=model_id,
                detail=f"the file name {file.path!r} {problem}; nothing was fetched, distrust the source",
            )
        seen.add(file.path.lower())
    return [(file, folder.joinpath(*file.path.split("/"))) for file in files]


def _problem(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path or path[1:2] == ":":
        return "leaves the model's folder"
    if _FORBIDDEN.search(path) or any(part != part.rstrip(". ") or not part for part in parts):
        return "is not a plain relative path"
    return f"ends in {PART_SUFFIX}" if path.lower().endswith(PART_SUFFIX) else ""


PART_SUFFIX = ".part"


_READ_BYTES = 1 << 20


class Digest(Protocol):
    """A hash in the making."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return the digest in hex."""


def digest_name(file: RemoteFile) -> str:
    """Return "sha256 12ab...", "md5 34cd...", or nothing for a file without digest."""
    if file.sha256:
        return f"sha256 {file.sha256.lower()}"
    return f"md5 {file.md5.lower()}" if file.md5 else ""


def new_digest(file: RemoteFile) -> Digest:
    """Return a hash of the kind that the file's digest is of."""
    return hashlib.sha256() if file.sha256 else hashlib.md5(usedforsecurity=False)


def name_of(digest: Digest, file: RemoteFile) -> str:
    """Name a digest as `digest_name` names the announced one."""
    kind = digest_name(file).partition(" ")[0]
    return f"{kind} {digest.hexdigest()}" if kind else ""


def feed(digest: Digest, path: Path, *, start: int, end: int, check: Callable[[], None]) -> None:
    """Digest a stretch of a file. `check` is called often and may raise."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < end and (data := file.read(min(_READ_BYTES, end - start))):
            check()
            digest.update(data)
            start += len(data)


def is_whole(path: Path, file: RemoteFile, check: Callable[[], None]) -> bool:
    """Tell whether an earlier try left the file, whole; one that is not is removed."""
    if not path.exists():
        return False
    if path.stat().st_size == file.size_bytes:
        digest = new_digest(file)
        if digest_name(file):
            feed(digest, path, start=0, end=file.size_bytes, check=check)
        if name_of(digest, file) == digest_name(file):
            return True
    path.unlink()
    return False
