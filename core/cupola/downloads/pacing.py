"""When to send and when to wait: the speed limit, the pauses before retries, and what servers ask for."""

import email.utils
import random
import threading
import time
from datetime import UTC, datetime
from email.message import Message

_LONGEST_PAUSE_S = 30.0
_LONGEST_ASKED_S = 300.0


class Pacing:
    """Shared by all threads of a transfer. Waiting ends at once when the transfer is stopped.

    Args:
        stopped: Set when nothing counts any more.
        bytes_per_s: Most to take; 0 sets no limit.
        first_pause_s: Before the first retry.
    """

    def __init__(self, stopped: threading.Event, *, bytes_per_s: float, first_pause_s: float) -> None:
        self._stopped = stopped
        self._bytes_per_s = bytes_per_s
        self._first_pause_s = first_pause_s
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._held_until = 0.0

    def take(self, size_bytes: int) -> float:
        """Wait until so many bytes are within the limit; returns how long that took, in seconds."""
        if not self._bytes_per_s:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size_bytes / self._bytes_per_s
            wait_s = self._free_at - now
        self._stopped.wait(wait_s)
        return wait_s

    def pause(self, attempt: int, asked_s: float | None) -> None:
        """Wait before a retry, the first being attempt 1: as long as the server asks, else longer each time.

        The jitter keeps connections that broke together from coming back together.
        """
        if asked_s is not None:
            with self._lock:
                self._held_until = max(self._held_until, time.monotonic() + asked_s)
            self.wait_turn()
            return
        longest_s = min(_LONGEST_PAUSE_S, self._first_pause_s * 2 ** (attempt - 1))
        self._stopped.wait(longest_s * random.uniform(0.5, 1))  # noqa: S311 - nothing secret about it

    def wait_turn(self) -> None:
        """Wait as long as the server asked anybody to."""
        self._stopped.wait(max(0.0, self._held_until - time.monotonic()))


def retry_after_s(headers: Message) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3); None if there is none, or more than five minutes."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text.isdecimal() else (_date(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(0.0, seconds), _LONGEST_ASKED_S)


def _date(text: str) -> datetime:
    date = email.utils.parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
