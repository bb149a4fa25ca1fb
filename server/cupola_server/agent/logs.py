"""The agent's log: rotating files. A full disk only loses lines."""

import contextlib
import faulthandler
import logging
import os
import threading
from pathlib import Path

from cupola.settings import ServiceSettings
from cupola_server.middleware import label_logs

_MODE = 0o600
_READ_BYTES = 1 << 16


def open_log(path: Path, settings: ServiceSettings) -> None:
    """Write all log records to the file from now on."""
    root = logging.getLogger()
    root.handlers = [RotatingLog(path, limit_bytes=int(settings.log_size_mb * 1e6), kept=settings.log_files)]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("hypercorn.error").setLevel(max(logging.WARNING, root.level))  # it mentions Ctrl+C
    label_logs()


def take_over_stderr(crash_file: Path) -> None:
    """Log everything that this process writes to standard error. Tracebacks of crashes go to `crash_file`."""
    crashes = os.open(crash_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)
    faulthandler.enable(crashes)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)  # a library that writes while it holds the GIL must not block
    os.dup2(write_end, 2)
    os.close(write_end)
    threading.Thread(target=_log_lines, args=(read_end,), name="stderr", daemon=True).start()


class RotatingLog(logging.Handler):
    """Writes records to a file without buffering. At the size limit NAME becomes NAME.1, NAME.1 becomes NAME.2, etc.

    Lines that cannot be written are dropped and counted, and the count is logged once writing works again. If the
    file is deleted or moved, a new one is created.
    """

    def __init__(self, path: Path, *, limit_bytes: int, kept: int) -> None:
        super().__init__()
        self._path, self._limit_bytes, self._kept = path, limit_bytes, kept
        self._file = -1
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = f"{self.format(record)}\n".encode(errors="replace")
        except Exception:  # noqa: BLE001 - somebody's arguments do not fit their format; serving goes on
            line = f"(a record of {record.name} could not be formatted)\n".encode()
        try:
            self._ensure_room(len(line))
            if self._dropped:
                os.write(self._file, f"({self._dropped} lines could not be written)\n".encode())
                self._dropped = 0
            os.write(self._file, line)
        except OSError:
            self._dropped += 1

    def close(self) -> None:
        """Close the file."""
        with self.lock or contextlib.nullcontext():
            self._close_file()
        super().close()

    def _ensure_room(self, size_bytes: int) -> None:
        """Open a file with enough room, rotating if necessary.

        Raises:
            OSError: The file cannot be opened.
        """
        if self._file < 0:
            self._open()
        status = os.fstat(self._file)
        if status.st_nlink == 0:
            self._open()
        elif status.st_size and status.st_size + size_bytes > self._limit_bytes:
            self._rotate()
            self._open()

    def _open(self) -> None:
        self._close_file()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _rotate(self) -> None:
        self._close_file()
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._kept + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)


def _log_lines(read_end: int) -> None:
    logger = logging.getLogger("stderr")
    rest = b""
    while data := os.read(read_end, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-_READ_BYTES:]
        for line in lines:
            logger.warning("%s", line.decode(errors="replace"))
