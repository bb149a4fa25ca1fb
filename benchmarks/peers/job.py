"""What an adapter is told, and how it answers. Adapters run in environments of their own, so this imports no Cupola."""

import json
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """The one argument of an adapter.

    Attributes:
        model: Folder of the model, with genai_config.json.
        variant: Which of the variants that its metadata name.
        threads: Compute threads of a tuned variant.
        streams: Most requests at a time.
        context: Most tokens of prompt and answer together.
        work: An empty folder that is removed afterwards.
    """

    model: Path
    variant: str
    threads: int
    streams: int
    context: int
    work: Path

    @classmethod
    def from_arguments(cls) -> "Job":
        """Read it."""
        given = json.loads(sys.argv[1])
        return cls(**{**given, "model": Path(given["model"]), "work": Path(given["work"])})


def ready(*packages: str, load_s: float, **told: Any) -> None:
    """Say that requests are answered now; with the versions of packages that make the difference."""
    print(json.dumps({"load_s": load_s, "versions": _versions(packages), **told}), flush=True)


def serve_until_told() -> None:
    """Wait for the end of standard input, which means stop."""
    sys.stdin.read()


def copy_model(source: Path, target: Path, *, threads: int | None = None) -> Path:
    """Copy the files of a model that others than Cupola read; with a number of threads in its configuration."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file() and path.name not in {"model.slots.onnx", "cupola.manifest.json", "inference_model.json"}:
            shutil.copy(path, target / path.name)
    if threads:
        file = target / "genai_config.json"
        config = json.loads(file.read_text("utf-8"))
        config["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = threads
        file.write_text(json.dumps(config), "utf-8")
    return target


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
