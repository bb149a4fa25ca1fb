"""Where announced files may be written. Names come from catalogs, so they are not trusted."""

import re
from collections.abc import Sequence
from pathlib import Path

from cupola.contracts import RemoteFile
from cupola.downloads.partial import PART_SUFFIX
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
