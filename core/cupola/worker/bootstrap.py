"""Runs a module of Cupola in an interpreter whose environment does not have Cupola installed.

Run as a script, `python -P bootstrap.py SHARED MODULE ARGUMENTS...`, because Cupola cannot be imported before it has
run. SHARED is JSON: the file and, for packages, the folders of each top-level module to import from the service's
environment. Nothing else is imported from there, and nothing is copied, so nothing becomes stale.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any


class Shared(importlib.abc.MetaPathFinder):
    """Finds the shared modules."""

    def __init__(self, places: Mapping[str, Mapping[str, Any]]) -> None:
        self._places = places

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the signature of a finder
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a shared top-level module. Submodules are found through the package's folders."""
        place = self._places.get(fullname)
        if place is None:
            return None
        if place["file"]:
            folders = place["folders"] or None
            return importlib.util.spec_from_file_location(fullname, place["file"], submodule_search_locations=folders)
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = list(place["folders"])
        return spec


def main(argv: list[str]) -> None:
    """Make the shared modules importable, and run the module instead of this script."""
    places, module, *arguments = argv
    sys.meta_path.insert(0, Shared(json.loads(places)))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
