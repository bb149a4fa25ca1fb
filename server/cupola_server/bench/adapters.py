"""Adapters, the programs that run a peer: finding them, reading their metadata, and their virtual environments."""

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

from cupola_server.bench.errors import TargetError, UnknownPeerError

ALL = "all"
"""The name that selects every adapter, and every usable execution provider."""
INSTALLED_MARK = "whole"
"""Name of the empty file that marks a completely installed environment."""

_SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""From the specification of inline script metadata, PEP 723."""
_INSTALL_TIMEOUT_S = 900.0
_MAX_OUTPUT_CHARS = 300


@dataclass(frozen=True, slots=True)
class Adapter:
    """A program that runs a peer, with its metadata.

    Attributes:
        path: The program.
        name: The name of its file, with hyphens.
        title: Name for tables and charts.
        requirements: Packages of its environment.
        variants: Configurations in which it can be measured.
        note: A remark for readers of the report.
        protocol: "openai", over HTTP, or "lines", JSON over its standard streams; the metadata key is `speaks`.
        own_interpreter: Whether it runs in Cupola's own environment.
        extra: Request fields beside those that every server knows.
        environment: Environment variables to start it with.
        models: Aliases of the models that it can run; empty for any.
        without_dependencies: Packages to install without their dependencies.
    """

    path: Path
    name: str
    title: str
    requirements: tuple[str, ...]
    variants: tuple[str, ...] = ("default",)
    note: str = ""
    protocol: str = "openai"
    own_interpreter: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    without_dependencies: tuple[str, ...] = ()


def find_adapters() -> list[Adapter]:
    """Return the adapters of the checkout that Cupola is installed from, or of the current folder."""
    places = (Path(__file__).resolve().parents[3], Path.cwd())
    folder = next(
        (place / "benchmarks" / "peers" for place in places if (place / "benchmarks" / "peers").is_dir()), None
    )
    adapters = [read_adapter(path) for path in sorted(folder.glob("*.py"))] if folder else []
    return [adapter for adapter in adapters if adapter]


def select_adapters(name: str) -> list[tuple[Adapter, str]]:
    """Return the adapters and variants that a name selects.

    Args:
        name: "all", the name of an adapter, of one of its variants ("NAME-VARIANT"), or the path of an adapter.

    Raises:
        UnknownPeerError: It selects none.
    """
    path = Path(name)
    given = read_adapter(path) if path.suffix == ".py" and path.is_file() else None
    adapters = [given] if given else find_adapters()
    pairs = [(adapter, variant) for adapter in adapters for variant in adapter.variants]
    if given or name == ALL:
        return pairs
    selected = [pair for pair in pairs if name in (pair[0].name, f"{pair[0].name}-{pair[1]}")]
    if not selected:
        raise UnknownPeerError(name=name, known=tuple(sorted({adapter.name for adapter, _ in pairs})))
    return selected


def read_adapter(path: Path) -> Adapter | None:
    """Read the inline metadata of a script; None if it has no table `[tool.cupola-peer]`."""
    block = _SCRIPT_BLOCK.search(path.read_text("utf-8"))
    if not block:
        return None
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in block["content"].splitlines())
    metadata = tomllib.loads("\n".join(lines))
    table = metadata.get("tool", {}).get("cupola-peer")
    if table is None:
        return None
    name = path.stem.replace("_", "-")
    return Adapter(
        path=path.resolve(),
        name=name,
        title=table.get("title", name),
        requirements=tuple(metadata.get("dependencies", ())),
        variants=tuple(table.get("variants", ("default",))),
        note=table.get("note", ""),
        protocol=table.get("speaks", "openai"),
        own_interpreter=table.get("own-interpreter", False),
        extra=table.get("extra", {}),
        environment=table.get("environment", {}),
        models=tuple(table.get("models", ())),
        without_dependencies=tuple(table.get("no-dependencies-of", ())),
    )


async def prepare_interpreter(adapter: Adapter) -> Path:
    """Return a Python interpreter with the packages of an adapter; installs them if need be.

    An environment is kept in the user's cache folder and reused as long as the adapter's packages stay the same.

    Raises:
        TargetError: The packages cannot be installed.
    """
    if adapter.own_interpreter:
        return Path(sys.executable)
    folder = environment_path(adapter)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    mark = folder / INSTALLED_MARK
    if not mark.exists():
        await _run_installer(adapter, sys.executable, "-m", "venv", "--clear", str(folder))
        alone = [spec for spec in adapter.requirements if _package_name(spec) in adapter.without_dependencies]
        others = [spec for spec in adapter.requirements if spec not in alone]
        for packages, flags in ((others, []), (alone, ["--no-deps"])):
            if packages:
                await _run_installer(adapter, str(python), "-m", "pip", "install", "--quiet", *flags, *packages)
        mark.touch()
    return python


def environment_path(adapter: Adapter) -> Path:
    """Return the folder of an adapter's environment; it differs for other packages and other Python versions."""
    digest = hashlib.sha256("\n".join((*adapter.requirements, sys.version)).encode()).hexdigest()[:12]
    return Path(platformdirs.user_cache_dir("cupola", appauthor=False)) / "peers" / f"{adapter.name}-{digest}"


async def _run_installer(adapter: Adapter, *command: str) -> None:
    environment_path(adapter).parent.mkdir(parents=True, exist_ok=True)
    try:
        with anyio.fail_after(_INSTALL_TIMEOUT_S):
            done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    except TimeoutError:
        detail = f"its packages were not installed within {_INSTALL_TIMEOUT_S:g} s"
        raise TargetError(name=adapter.name, detail=detail) from None
    if done.returncode:
        output = done.stdout.decode("utf-8", "replace").strip()[-_MAX_OUTPUT_CHARS:]
        raise TargetError(name=adapter.name, detail=f"its packages cannot be installed: {output}")


def _package_name(requirement: str) -> str:
    return requirement.partition("==")[0].partition(">")[0].strip()
