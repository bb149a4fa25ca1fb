"""Finds the adapters of peers and reads what they say about themselves."""

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import platformdirs

from cupola_server.bench.errors import PeerError, UnknownPeerError

_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
ALL = "all"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A program that runs a peer, with what its metadata say.

    Attributes:
        name: Its file's name, with hyphens.
        requirements: Packages of its environment.
        variants: Ways in which it can be measured.
        speaks: "openai", over HTTP, or "lines", through its standard streams.
        own_interpreter: It needs no environment beside Cupola's own.
        extra: Fields of requests that it knows beside the common ones.
        environment: Variables that it is started with.
        models: Aliases of the models that it can run; empty for any.
        without_dependencies: Packages to install without what they require.
    """

    path: Path
    name: str
    title: str
    requirements: tuple[str, ...]
    variants: tuple[str, ...] = ("default",)
    note: str = ""
    speaks: str = "openai"
    own_interpreter: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    without_dependencies: tuple[str, ...] = ()


def adapters() -> list[Adapter]:
    """Return the adapters of the checkout that Cupola is installed from, or that is the current folder."""
    places = (Path(__file__).resolve().parents[3], Path.cwd())
    folder = next(
        (place / "benchmarks" / "peers" for place in places if (place / "benchmarks" / "peers").is_dir()), None
    )
    found = [read_adapter(path) for path in sorted(folder.glob("*.py"))] if folder else []
    return [adapter for adapter in found if adapter]


def adapters_named(name: str) -> list[tuple[Adapter, str]]:
    """Return the adapters and variants that a name means: of all, of an adapter, or one of its variants.

    Raises:
        UnknownPeerError: It means none.
    """
    path = Path(name)
    given = read_adapter(path) if path.suffix == ".py" and path.is_file() else None
    pairs = [(adapter, variant) for adapter in ([given] if given else adapters()) for variant in adapter.variants]
    if given or name == ALL:
        return pairs
    found = [pair for pair in pairs if name in (pair[0].name, f"{pair[0].name}-{pair[1]}")]
    if not found:
        raise UnknownPeerError(name=name, known=tuple(sorted({adapter.name for adapter, _ in pairs})))
    return found


def read_adapter(path: Path) -> Adapter | None:
    """Read the metadata of a script; None if it is no adapter."""
    block = _BLOCK.search(path.read_text("utf-8"))
    if not block:
        return None
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in block["content"].splitlines())
    metadata = tomllib.loads("\n".join(lines))
    told = metadata.get("tool", {}).get("cupola-peer")
    if told is None:
        return None
    name = path.stem.replace("_", "-")
    return Adapter(
        path=path.resolve(),
        name=name,
        title=told.get("title", name),
        requirements=tuple(metadata.get("dependencies", ())),
        variants=tuple(told.get("variants", ("default",))),
        note=told.get("note", ""),
        speaks=told.get("speaks", "openai"),
        own_interpreter=told.get("own-interpreter", False),
        extra=told.get("extra", {}),
        environment=told.get("environment", {}),
        models=tuple(told.get("models", ())),
        without_dependencies=tuple(told.get("no-dependencies-of", ())),
    )


_INSTALL_S = 900.0
_ENDING_BYTES = 300


async def python_for(adapter: Adapter) -> Path:
    """Return an interpreter with what an adapter needs; installs it if need be.

    Raises:
        PeerError: It cannot be installed here.
    """
    if adapter.own_interpreter:
        return Path(sys.executable)
    folder = environment_of(adapter)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    whole = folder / "whole"
    if not whole.exists():
        await _run(adapter, sys.executable, "-m", "venv", "--clear", str(folder))
        plain = [each for each in adapter.requirements if _bare(each) not in adapter.without_dependencies]
        alone = [each for each in adapter.requirements if each not in plain]
        for packages, flags in ((plain, []), (alone, ["--no-deps"])):
            if packages:
                await _run(adapter, str(python), "-m", "pip", "install", "--quiet", *flags, *packages)
        whole.touch()
    return python


def environment_of(adapter: Adapter) -> Path:
    """Return the folder of an adapter's environment; another one for other packages."""
    packages = hashlib.sha256("\n".join((*adapter.requirements, sys.version)).encode()).hexdigest()[:12]
    return Path(platformdirs.user_cache_dir("cupola", appauthor=False)) / "peers" / f"{adapter.name}-{packages}"


async def _run(adapter: Adapter, *command: str) -> None:
    Path(environment_of(adapter)).parent.mkdir(parents=True, exist_ok=True)
    try:
        with anyio.fail_after(_INSTALL_S):
            done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    except TimeoutError:
        detail = f"it was not installed within {_INSTALL_S:g} s"
        raise PeerError(name=adapter.name, detail=detail) from None
    if done.returncode:
        told = done.stdout.decode("utf-8", "replace").strip()[-_ENDING_BYTES:]
        raise PeerError(name=adapter.name, detail=f"it cannot be installed: {told}")


def _bare(requirement: str) -> str:
    return requirement.partition("==")[0].partition(">")[0].strip()
