"""Has a provider look for its devices in a process of its own, which may crash, hang or fail without costing more."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process

from cupola.contracts import ProviderReport
from cupola.plugins import ProviderEntry
from cupola.settings import Settings
from cupola.worker.interpreter import Interpreter
from cupola.worker.killing import kill_group
from cupola.worker.prober import Finding, Probe
from cupola.worker.process import detached, ending, last_words


async def probe(
    entry: ProviderEntry, settings: Settings, interpreter: Interpreter, *, timeout_s: float | None = None
) -> Finding:
    """Return what a provider reports of this machine, or what became of the process that asked it.

    Cancelling ends the process. Nothing is raised for what a provider does.

    Args:
        entry: The provider.
        settings: Handed to the plugin.
        interpreter: That of the provider's environment.
        timeout_s: How long it has; None takes `machine.probe_timeout_s`.
    """
    name = entry.provider.name
    timeout_s = timeout_s or settings.machine.probe_timeout_s
    question = msgspec.json.encode(Probe(entry.reference, name, msgspec.to_builtins(settings.for_workers())))
    folder = Path(tempfile.mkdtemp(prefix="cupola-probe-"))
    try:
        process = await _started(interpreter, entry.provider.environment(entry.options), folder)
        try:
            with anyio.move_on_after(timeout_s) as limit:
                answer = await _ask(process, question)
            code = process.returncode
        finally:
            await kill_group(process)
        if limit.cancelled_caught:
            problem = "; ".join([f"it did not report within {timeout_s:g} s", *last_words(folder / "stderr")])
            return _failed(name, problem, "update its driver, or raise machine.probe_timeout_s on a slow machine")
        return _read(name, answer, code, folder)
    except OSError as error:
        return _failed(name, f"{interpreter.python} did not start: {error}", "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _started(interpreter: Interpreter, environment: Mapping[str, str], folder: Path) -> Process:
    with (folder / "stderr").open("wb") as stderr:
        return await anyio.open_process(
            interpreter.command("cupola.worker.prober", str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env={**os.environ, **environment},
            **detached(),
        )


async def _ask(process: Process, question: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(question)
        await process.stdin.aclose()
    answer = b"".join([piece async for piece in process.stdout])
    await process.wait()
    return answer


def _read(name: str, answer: bytes, code: int | None, folder: Path) -> Finding:
    try:
        return msgspec.json.decode(answer, type=Finding)
    except msgspec.MsgspecError:
        how = ending(code) if code is not None else "without a word"
        problem = "; ".join([f"the process that probed it ended: {how}", *last_words(folder / "stderr")])
        return _failed(name, problem, "reinstall it, or update its driver")


def _failed(name: str, problem: str, remedy: str) -> Finding:
    return Finding(ProviderReport(name, problem=problem, remedy=remedy), ran=False)
