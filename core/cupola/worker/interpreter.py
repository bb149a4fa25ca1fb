"""Which interpreter a worker runs in, and what it takes from the service's environment."""

import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

_OURS = ("cupola", "cupola_providers")
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter for worker processes.

    Attributes:
        python: The program.
        shared: Top-level modules that it takes from the service's environment, for `bootstrap`. None means that it
            is the service's own, which has everything.
    """

    python: str = sys.executable
    shared: Mapping[str, Mapping[str, Any]] | None = field(default=None)

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the command line that runs a module of Cupola."""
        if self.shared is None:
            return [self.python, "-m", module, *arguments]
        return [self.python, "-P", str(_BOOTSTRAP), json.dumps(self.shared), module, *arguments]


def shared_modules(reference: str, distribution: Distribution | None) -> dict[str, dict[str, Any]]:
    """Say where the modules lie that a worker needs of the service's: our own, and a plugin's whole distribution.

    Args:
        reference: The plugin, "module" or "module:attribute".
        distribution: What brought it, if that is known.
    """
    names = [*_OURS, reference.partition(":")[0].partition(".")[0], *_top_level(distribution)]
    return {name: place for name in dict.fromkeys(names) if (place := _place(name))}


def _top_level(distribution: Distribution | None) -> Iterable[str]:
    """Name the importable things of a distribution; of ours all that a worker may have is known already."""
    if distribution is None or distribution.name.lower() == _OURS[0]:
        return ()
    declared = (distribution.read_text("top_level.txt") or "").split()
    files = distribution.files or ()
    packages = [file.parts[0] for file in files if len(file.parts) > 1 and file.suffix in (".py", ".so", ".pyd")]
    modules = [file.name.partition(".")[0] for file in files if len(file.parts) == 1 and file.suffix == ".py"]
    return [name for name in (*declared, *packages, *modules) if name.isidentifier()]


def _place(name: str) -> dict[str, Any] | None:
    """Say where a top-level module lies, without importing it."""
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin in ("built-in", "frozen"):
        return None
    return {"file": spec.origin if spec.has_location else None, "folders": list(spec.submodule_search_locations or ())}
