"""Process identity: distinguishes a running process from a later one with the same process id."""

import sys
import time
from pathlib import Path

_POLL_S = 0.01

if sys.platform == "linux":

    def process_start(pid: int) -> str:
        """Return when a process started, as an opaque string; "" if it does not run.

        On Linux it is the boot id and the clock ticks since boot, so changing the system clock does not affect it.
        """
        try:
            status = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            return ""
        fields = status.rpartition(")")[2].split()  # the command name before it may contain spaces and parentheses
        state, ticks = fields[0], fields[19]
        return "" if state in ("Z", "X") else f"{boot} {ticks}"

else:
    import psutil

    def process_start(pid: int) -> str:
        """Return when a process started, as an opaque string; "" if it does not run."""
        try:
            process = psutil.Process(pid)
            return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except psutil.Error:
            return ""


def is_alive(pid: int, born: str) -> bool:
    """Whether the process with this id and this `process_start` still runs. A zombie does not."""
    return bool(born) and process_start(pid) == born


def wait_for_exit(pid: int, born: str, *, timeout_s: float) -> bool:
    """Wait until a process has ended; returns False if it still runs after the timeout.

    Blocks the thread. It polls, because a process can wait for the end of its own children only.
    """
    deadline = time.monotonic() + timeout_s
    while is_alive(pid, born):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
