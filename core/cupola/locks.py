"""An exclusive lock on an open file, between processes. The kernel opens it when its holder ends, however it ends."""

import sys
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed; False if somebody else has it.

    Raises:
        OSError: Its file system knows no locks.
    """
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):  # what POSIX and Windows say when somebody has it
        return False
    return True
