"""Brings the files of a folder into another, shared or copied. Blocks; call it in a thread that anyio started."""

import os
from collections.abc import Sequence
from pathlib import Path

from anyio import from_thread

from cupola.catalog import Progress, ProgressEvent

_COPY_BYTES = 8 << 20


def bring_files(files: Sequence[Path], root: Path, folder: Path, *, link: bool, progress: Progress) -> None:
    """Put every file at its place below `folder`. Links are followed, so that no file leads out of it.

    ONNX Runtime refuses weights that lie elsewhere than the model that names them, which is what the symbolic links of
    Hugging Face's cache amount to; hard links are files like any other.

    Args:
        files: What to bring.
        root: The folder they are in.
        folder: Where to put them; made if need be.
        link: Share the file where the file system can, by a hard link; else copy.
        progress: Told on the event loop.

    Raises:
        OSError: A file cannot be read or written.
    """
    sizes = [path.stat().st_size for path in files]
    done, total = 0, sum(sizes)
    for path, size in zip(files, sizes, strict=True):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (link and _linked(path.resolve(), target)):
            _copy(path, target, done, total, progress)
        done += size
        _tell(progress, done, total)


def _linked(path: Path, target: Path) -> bool:
    """Share a file; False where that cannot be: another disk, another's file, a file system without links."""
    try:
        os.link(path, target)
    except OSError:
        return False
    return True


def _copy(path: Path, target: Path, done: int, total: int, progress: Progress) -> None:
    with path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as copy:
        while data := source.read(_COPY_BYTES):
            rest = memoryview(data)
            while rest:
                rest = rest[copy.write(rest) :]
            done += len(data)
            _tell(progress, done, total)


def _tell(progress: Progress, done: int, total: int) -> None:
    from_thread.check_cancelled()
    from_thread.run_sync(progress, ProgressEvent("import", done, total))
