"""Converts GGUF files, in a separate process, so that the service never holds its memory or its libraries.

The import process writes JSON to standard output, one `Line` each.
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, Process
from msgspec import Struct

from cupola.catalog import ModelConverter, Progress, ProgressEvent, Settings, hookimpl
from cupola.errors import ModelFormatError, WireError, from_wire
from cupola_plugins.gguf import files
from cupola_plugins.gguf.files import Layout

_MAGIC = b"GGUF"
_STDERR_TAIL_BYTES = 2_000


class ProgressLine(Struct, frozen=True, tag="progress"):
    """Reports progress."""

    event: ProgressEvent


class DoneLine(Struct, frozen=True, tag="done"):
    """The import is complete. Always the last line of a process that succeeded."""


Line = ProgressLine | WireError | DoneLine


_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class GgufConverter(ModelConverter):
    """Imports GGUF files with one of the architectures in `architecture.ARCHITECTURES`."""

    name = "gguf"

    def layouts(self, source: Path) -> Sequence[str]:
        """Return every layout for a file that starts with the GGUF magic bytes, whatever its name."""
        return tuple(layout.value for layout in Layout) if is_gguf(source) else ()

    async def convert(self, source: Path, folder: Path, *, layout: str, progress: Progress) -> None:
        """Import the file in a separate process. See `import_in_subprocess` for errors and cancellation."""
        await import_in_subprocess(source, folder, layout=Layout(layout), progress=progress)


@hookimpl
def model_converters(settings: Settings) -> Iterable[ModelConverter]:  # noqa: ARG001 - the converter has no settings
    """Contribute the converter."""
    return [GgufConverter()]


def is_gguf(path: Path) -> bool:
    """Tell whether a file starts with the GGUF magic bytes. False for folders and for files that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


async def import_in_subprocess(
    source: Path, folder: Path, *, layout: Layout = Layout.INT8_ROWS, progress: Progress | None = None
) -> None:
    """Turn a GGUF file into a folder that onnxruntime-genai loads.

    Replaces the files listed in `files.ALL` and leaves other files alone. If it raises, for whatever reason, it removes
    all of these files. Cancellation kills the process and waits until it has ended.

    Args:
        source: The GGUF file.
        folder: The output folder; created if it does not exist.
        layout: How to store the weights.
        progress: Called on the event loop after each layer, with the phase "import".

    Raises:
        ModelFormatError: The file is damaged or not supported, or the import process died.
        DiskFullError: There is not enough disk space.
        CacheError: The folder cannot be written.
    """
    # -P: a stray numpy.py in the current directory must not become the library.
    command = [sys.executable, "-P", "-m", "cupola_plugins.gguf", str(source), str(folder), "--layout", layout.value]
    try:
        await run_subprocess(command, source, progress)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(files.remove_from, folder)
        raise


async def run_subprocess(command: list[str], source: Path, progress: Progress | None) -> None:
    """Run a process that writes `Line`s until it ends. Cancellation kills it.

    Raises:
        ModelFormatError: The process died without an outcome.
        CupolaError: The error that the process reported.
    """
    outcome = await _run(command, source, progress)
    if isinstance(outcome, WireError):
        raise from_wire(outcome)


async def _run(command: list[str], source: Path, progress: Progress | None) -> WireError | DoneLine:
    """Run the process and return its outcome.

    Raises:
        ModelFormatError: It ended without an outcome.
    """
    with tempfile.TemporaryFile() as stderr:  # an unread pipe would block the process
        process = await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=stderr)
        try:
            assert process.stdout is not None
            outcome = await _read_outcome(process.stdout, progress)
            code = await process.wait()
        finally:
            await _kill(process)
        if outcome is not None:
            return outcome
        stderr.seek(max(0, stderr.seek(0, io.SEEK_END) - _STDERR_TAIL_BYTES))
        tail = stderr.read().decode(errors="replace")
    raise ModelFormatError(path=str(source), detail=f"the import process {_exit_cause(code)}. {tail}".strip())


async def _kill(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def _read_outcome(stdout: ByteReceiveStream, progress: Progress | None) -> WireError | DoneLine | None:
    outcome, rest = None, b""
    async for chunk in stdout:
        *complete, rest = (rest + chunk).split(b"\n")
        for line in map(_decode_line, complete):
            if not isinstance(line, ProgressLine):
                outcome = line or outcome
            elif progress is not None:
                progress(line.event)
    return outcome


def _decode_line(line: bytes) -> Line | None:
    try:
        return decode(line)
    except msgspec.DecodeError:  # output of a library
        return None


def _exit_cause(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code}; if memory is short, close other programs and try again"
    return f"exited with code {code} before it finished"


def encode(line: Line) -> bytes:
    """Encode a line, with its newline."""
    return msgspec.json.encode(line) + b"\n"


def decode(line: bytes) -> Line:
    """Decode a line.

    Raises:
        msgspec.DecodeError: It is not a `Line`.
    """
    return _DECODER.decode(line)
