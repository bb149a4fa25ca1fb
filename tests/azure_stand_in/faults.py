"""What can go wrong, on demand."""

import random
import threading
from dataclasses import dataclass


@dataclass
class Fault:
    """Spoils answers of one service.

    Attributes:
        where: "catalog", "registry", "container" (its listing), "blob", or "detection" of the region.
        status: Answer with this status, and `retry_after` if given, instead.
        drop_after: Announce everything, close the connection after so many bytes; of a pair, at random between.
        cut_to: Announce and send only so many bytes, as if that were all (short bodies, truncated XML).
        trickle: (bytes, pause_s): send so many bytes, pause, and so on.
        corrupt: Change the first byte of the body.
        whole: Ignore the range that is asked for.
        hold: Send no answer until `AzureStandIn.go_on` is set.
        only: Substring of the path that the fault is limited to, a blob's name or a region.
        times: How often it strikes; None for ever.
        chance: How likely it strikes.
    """

    where: str
    status: int = 0
    retry_after: str = ""
    drop_after: "int | tuple[int, int] | None" = None
    cut_to: int | None = None
    trickle: "tuple[int, float] | None" = None
    corrupt: bool = False
    whole: bool = False
    hold: bool = False
    only: str = ""
    times: int | None = 1
    chance: float = 1.0


class Faults:
    """The faults that wait for their turn."""

    def __init__(self, seed=0):
        self.pending = []
        self.struck = []
        self.random = random.Random(seed)
        self._lock = threading.Lock()

    def add(self, fault):
        with self._lock:
            self.pending.append(fault)

    def clear(self):
        with self._lock:
            self.pending.clear()

    def strike(self, where, path):
        """Return the fault for one request, if any."""
        with self._lock:
            for fault in self.pending:
                if fault.where == where and fault.only in path and self.random.random() < fault.chance:
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self.pending.remove(fault)
                    self.struck.append(fault)
                    return fault
        return None

    def drop_at(self, fault, length):
        """Return the byte after which to close the connection, None to send all."""
        if fault is None or fault.drop_after is None:
            return None
        if isinstance(fault.drop_after, int):
            return fault.drop_after
        first, last = fault.drop_after
        return self.random.randint(min(first, length), min(last, length))
