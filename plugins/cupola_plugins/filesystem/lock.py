"""An exclusive lock between processes. The kernel releases it when its holder ends for any reason."""

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO, cast

import anyio

from cupola.files import try_lock

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25


def open_shared(path: Path) -> BinaryIO:
    """Open a lock file so that other users who can write to its folder can lock it too.

    A file of another user is opened for reading, which is enough for `flock`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except PermissionError:
        return cast("BinaryIO", path.open("rb", buffering=0))
    share(path)
    return cast("BinaryIO", os.fdopen(descriptor, "ab", buffering=0))


def share(path: Path) -> None:
    """Give a path the write permissions of its parent folder, whatever the umask."""
    if sys.platform == "win32":
        return
    allowed = path.parent.stat().st_mode & 0o022
    mode = path.stat().st_mode
    wanted = allowed | (allowed >> 1 if path.is_dir() else 0) | allowed << 1
    if mode & wanted != wanted:
        with contextlib.suppress(PermissionError):  # owned by another user
            path.chmod(stat.S_IMODE(mode) | wanted)


class FileLock:
    """A lock on a file. The file is never deleted: two processes could then lock two files of the same name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    async def acquire(self) -> None:
        """Wait until the lock is free and acquire it. Polls, so that waiting can be cancelled.

        Raises:
            OSError: The file cannot be opened, or its file system does not support locks.
        """
        pause_s = _FIRST_PAUSE_S
        while not self._try_acquire():
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _try_acquire(self) -> bool:
        # Not in a thread: it takes microseconds, and cancellation must not come between locking and storing the file.
        file = open_shared(self._path)
        try:
            taken = try_lock(file)
        except BaseException:
            file.close()
            raise
        if taken:
            self._file = file
        else:
            file.close()
        return taken
