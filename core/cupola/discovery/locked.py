"""Waiting for one's turn at a lock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cupola.locks import try_lock

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05


@contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be and stays.

    Blocks the thread. Asks again and again, because systems offer no waiting with an end.

    Raises:
        TimeoutError: Somebody else still has it.
        OSError: The file cannot be opened, or its file system knows no locks.
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
