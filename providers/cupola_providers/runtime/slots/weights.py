"""How large the weights of a graph are."""

from pathlib import Path
from typing import Any


def weights_bytes(graph: Any, path: Path) -> int:
    """Add up the files that hold a graph's weights; its own one if none lies outside."""
    places = {entry.value for one in graph.initializer for entry in one.external_data if entry.key == "location"}
    files = [path.parent / place for place in places] or [path]
    return sum(file.stat().st_size for file in files if file.is_file())
