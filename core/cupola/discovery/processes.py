"""Telling a process from a later one that got its id."""

import sys
import time
from pathlib import Path

_PAUSE_S = 0.01

if sys.platform == "linux":

    def birth(pid: int) -> str:
        """Return when a process began, in words that no later process of that id shares; "" if there is none.

        On Linux that is counted from the start of the machine, so that setting the clock changes nothing.
        """
        try:
            status = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            return ""
        fields = status.rpartition(")")[2].split()  # the name before it may hold anything
        state, ticks = fields[0], fields[19]
        return "" if state in ("Z", "X") else f"{boot} {ticks}"

else:
    import psutil

    def birth(pid: int) -> str:
        """Return when a process began, in words that no later process of that id shares; "" if there is none."""
        try:
            process = psutil.Process(pid)
            return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except psutil.Error:
            return ""


def is_alive(pid: int, born: str) -> bool:
    """Whether a process of that id and birth still runs. One that ended and waits for its parent does not."""
    return bool(born) and birth(pid) == born


def wait_for_end(pid: int, born: str, *, timeout_s: float) -> bool:
    """Wait until a process runs no more; False if it still does after that time.

    Blocks the thread. Asks again and again, because systems tell of the end of a child alone.
    """
    deadline = time.monotonic() + timeout_s
    while is_alive(pid, born):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)
    return True
