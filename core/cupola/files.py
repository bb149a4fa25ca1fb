"""Files that several processes share: atomic replacement, and exclusive locks.

The kernel releases a lock when the process that holds it ends, even if it was killed.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or the new one, never a part.

    Missing folders are created. On POSIX systems only the owner can read the file (mode 0600).

    Raises:
        OSError: The file cannot be written. The old content remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


@contextmanager
def hold_lock(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created if it does not exist and is never deleted.

    Blocks the thread. It polls, because neither `flock` nor `msvcrt.locking` takes a timeout.

    Raises:
        TimeoutError: Another process still holds the lock.
        OSError: The file cannot be opened, or its file system does not support locks.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    with path.open("ab", buffering=0) as file:
        while not try_lock(file):
            if time.monotonic() >= deadline:
                raise TimeoutError(str(path))
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; returns False if another process holds the lock.

    Raises:
        OSError: The file system does not support locks.
    """
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):  # raised by POSIX and by Windows for a lock that is held
        return False
    return True
