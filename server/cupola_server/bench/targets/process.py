"""A server that a target starts: its first line, its last words, its end."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from cupola_server.bench.client import PeerError

START_S = 180.0
_GRACE_S = 15.0
_LINE_BYTES = 1 << 20
_TAIL_BYTES = 600


class ServerProcess:
    """Started on entering, ended on leaving: standard input is closed, then it is asked to end, then it is killed.

    Args:
        name: Of the target, for errors.
        command: Program and arguments.
        environment: Variables beside our own.
        folder: Where it runs.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] = {}, folder: Path | None = None
    ) -> None:
        self._name, self._command, self._folder = name, list(command), folder
        self._environment = {**os.environ, **environment}
        self._process: Process
        self._lines: BufferedByteReceiveStream

    async def __aenter__(self) -> Self:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        try:
            self._process = await anyio.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise PeerError(name=self._name, detail=f"{self._command[0]} cannot be started: {error}") from error
        assert self._process.stdout
        self._lines = BufferedByteReceiveStream(self._process.stdout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            assert self._process.stdin
            await self._process.stdin.aclose()
            for wait_s, end in ((0.5, self._process.terminate), (_GRACE_S, self._process.kill)):
                with anyio.move_on_after(wait_s):
                    await self._process.wait()
                if self._process.returncode is None:
                    end()
            await self._process.wait()
            await self._process.aclose()
            self._log.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def send(self, line: bytes) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin
        await self._process.stdin.send(line + b"\n")

    async def line(self, within_s: float = START_S) -> str:
        """Return its next line.

        Raises:
            PeerError: It ended, or said nothing for too long; with its last words.
        """
        try:
            with anyio.fail_after(within_s):
                return (await self._lines.receive_until(b"\n", _LINE_BYTES)).decode("utf-8", "replace")
        except TimeoutError:
            detail = f"it said nothing for {within_s:g} s. {self.last_words()}"
            raise PeerError(name=self._name, detail=detail) from None
        except (anyio.IncompleteRead, anyio.EndOfStream):
            raise PeerError(name=self._name, detail=f"it ended. {self.last_words()}") from None

    def ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return self._process.returncode is not None

    def last_words(self) -> str:
        """Return the end of what it wrote to standard error."""
        self._log.seek(0)
        text = self._log.read()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        return f"Its last words: {text}" if text else "It gave no reason."
