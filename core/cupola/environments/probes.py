"""Probes: a provider looks for its devices in a process of its own, which may crash or hang without harm."""

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
from cupola.worker.launch import Interpreter, describe_exit, detached, kill_group, stderr_tail
from cupola.worker.prober import Finding, Probe


async def probe(
    entry: ProviderEntry, settings: Settings, interpreter: Interpreter, *, timeout_s: float | None = None
) -> Finding:
    """Probe a provider in a new process. Cancellation kills the process.

    Args:
        entry: The provider.
        settings: The settings for the plugin.
        interpreter: The interpreter of the provider's environment.
        timeout_s: The time limit; None uses the setting `machine.probe_timeout_s`.

    Returns:
        The provider's report. If the process crashed, hung or did not start, `ran` is false and the report's problem
        gives the reason; nothing is raised.
    """
    name = entry.provider.name
    timeout_s = timeout_s or settings.machine.probe_timeout_s
    request = msgspec.json.encode(Probe(entry.reference, name, msgspec.to_builtins(settings.for_workers())))
    folder = Path(tempfile.mkdtemp(prefix="cupola-probe-"))
    try:
        process = await _start(interpreter, entry.provider.environment(entry.options), folder)
        try:
            with anyio.move_on_after(timeout_s) as limit:
                output = await _communicate(process, request)
            code = process.returncode
        finally:
            await kill_group(process)
        if limit.cancelled_caught:
            problem = "; ".join([f"It did not report within {timeout_s:g} s", *stderr_tail(folder / "stderr")])
            remedy = "Update its driver, or raise machine.probe_timeout_s on a slow machine."
            return _failure(name, f"{problem}.", remedy)
        return _parse_finding(name, output, code, folder)
    except OSError as error:
        return _failure(name, f"{interpreter.python} did not start: {error}.", "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _start(interpreter: Interpreter, environment: Mapping[str, str], folder: Path) -> Process:
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


async def _communicate(process: Process, request: bytes) -> bytes:
    """Send the request to standard input and return what the process writes to standard output until it ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(request)
        await process.stdin.aclose()
    output = b"".join([chunk async for chunk in process.stdout])
    await process.wait()
    return output


def _parse_finding(name: str, output: bytes, code: int | None, folder: Path) -> Finding:
    try:
        return msgspec.json.decode(output, type=Finding)
    except msgspec.MsgspecError:
        reason = describe_exit(code) if code is not None else "unknown exit code"
        problem = "; ".join([f"Its probe ended with an error: {reason}", *stderr_tail(folder / "stderr")])
        return _failure(name, f"{problem}.", "Reinstall it, or update its driver.")


def _failure(name: str, problem: str, remedy: str) -> Finding:
    return Finding(ProviderReport(name, problem=problem, remedy=remedy), ran=False)
