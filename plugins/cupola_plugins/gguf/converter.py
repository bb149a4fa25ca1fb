"""GGUF files as a kind of source that models are made of."""

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
    """The import got further."""

    event: ProgressEvent


class DoneLine(Struct, frozen=True, tag="done"):
    """The import is complete. Always the last line of a process that succeeded."""


Line = ProgressLine | WireError | DoneLine


_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class GgufConverter(ModelConverter):
    """Imports GGUF files of the architectures that `architecture.ARCHITECTURES` names."""

    name = "gguf"

    def layouts(self, source: Path) -> Sequence[str]:
        """Offer every layout for a file that begins as GGUF files do, whatever its name."""
        return tuple(layout.value for layout in Layout) if is_gguf(source) else ()

    async def convert(self, source: Path, folder: Path, *, layout: str, progress: Progress) -> None:
        """Import the file in a process of its own."""
        await import_in_subprocess(source, folder, layout=Layout(layout), progress=progress)


@hookimpl
def model_converters(settings: Settings) -> Iterable[ModelConverter]:  # noqa: ARG001 - nothing of it can be set
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

    Files of the names in `files.ALL` are replaced in the folder, others left alone. When this raises, for whatever
    reason, none of those files is left. Cancellation ends the process and waits for its end.

    Args:
        source: The GGUF file.
        folder: Where to write; made if need be.
        layout: How to store the weights.
        progress: Is told of every layer done, on the event loop, with the phase "import".

    Raises:
        ModelFormatError: The file is damaged or not supported; also when the importing process dies.
        DiskFullError: There is not enough room in the folder.
        CacheError: The folder cannot be written.
    """
    # -P: a stray numpy.py in the current directory must not become the library.
    command = [sys.executable, "-P", "-m", "cupola_plugins.gguf", str(source), str(folder), "--layout", layout.value]
    try:
        await run_isolated(command, source, progress)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(files.remove_from, folder)
        raise


async def run_isolated(command: list[str], source: Path, progress: Progress | None) -> None:
    """Run a process that speaks `lines` to its end. Cancellation kills it.

    Raises:
        ModelFormatError: It died; or whatever else it had to say.
    """
    outcome = await _run(command, source, progress)
    if isinstance(outcome, WireError):
        raise from_wire(outcome)


async def _run(command: list[str], source: Path, progress: Progress | None) -> WireError | DoneLine:
    """Run the process to its end and return its last word.

    Raises:
        ModelFormatError: It ended without one.
    """
    with tempfile.TemporaryFile() as stderr:  # a pipe would have to be read as well, or the process would block on it
        process = await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=stderr)
        try:
            assert process.stdout is not None
            outcome = await _outcome(process.stdout, progress)
            code = await process.wait()
        finally:
            await _end(process)
        if outcome is not None:
            return outcome
        stderr.seek(max(0, stderr.seek(0, io.SEEK_END) - _STDERR_TAIL_BYTES))
        tail = stderr.read().decode(errors="replace")
    raise ModelFormatError(path=str(source), detail=f"the importing process {_how_it_ended(code)}. {tail}".strip())


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def _outcome(stdout: ByteReceiveStream, progress: Progress | None) -> WireError | DoneLine | None:
    outcome, rest = None, b""
    async for chunk in stdout:
        *complete, rest = (rest + chunk).split(b"\n")
        for line in map(_decoded, complete):
            if not isinstance(line, ProgressLine):
                outcome = line or outcome
            elif progress is not None:
                progress(line.event)
    return outcome


def _decoded(line: bytes) -> Line | None:
    try:
        return decode(line)
    except msgspec.DecodeError:  # a library printed something: not for us
        return None


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by signal {-code}; if memory is short, close other programs and try again"
    return f"ended with exit code {code} before it was done"


def encode(line: Line) -> bytes:
    """Write a line, with its end."""
    return msgspec.json.encode(line) + b"\n"


def decode(line: bytes) -> Line:
    """Read a line.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _DECODER.decode(line)
