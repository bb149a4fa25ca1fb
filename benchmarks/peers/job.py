"""An adapter's side of the protocol with `cupola bench`. Adapters run in other environments: this imports no Cupola."""

import json
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_FILES_OF_CUPOLA = {"model.slots.onnx", "cupola.manifest.json", "inference_model.json"}


@dataclass(frozen=True)
class Job:
    """The argument of an adapter, one JSON object.

    Attributes:
        model: The folder of the model, with genai_config.json.
        variant: One of the variants in the adapter's metadata.
        threads: Number of compute threads for a tuned variant.
        streams: Most requests at a time.
        context: Most tokens of a prompt and its response together.
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
        """Parse the first argument of the program."""
        fields = json.loads(sys.argv[1])
        return cls(**{**fields, "model": Path(fields["model"]), "work": Path(fields["work"])})


def print_ready(*packages: str, load_s: float, **fields: Any) -> None:
    """Print the line that says that requests are accepted now.

    Args:
        packages: Packages whose versions influence the speed.
        load_s: Seconds that loading the model took.
        fields: "url" and "model" for the protocol "openai"; "build" to describe the build.
    """
    print(json.dumps({"load_s": load_s, "versions": _package_versions(packages), **fields}), flush=True)


def wait_until_stopped() -> None:
    """Wait for the end of standard input, which means to stop."""
    sys.stdin.read()


def copy_model(source: Path, target: Path, *, threads: int | None = None) -> Path:
    """Copy a model without the files that only Cupola reads; return the target.

    Args:
        source: Folder of the model.
        target: Folder to create.
        threads: Number of threads to write into genai_config.json; None keeps it as it is.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file() and path.name not in _FILES_OF_CUPOLA:
            shutil.copy(path, target / path.name)
    if threads:
        file = target / "genai_config.json"
        config = json.loads(file.read_text("utf-8"))
        config["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = threads
        file.write_text(json.dumps(config), "utf-8")
    return target


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder in bytes."""
    return sum(path.stat().st_size for path in folder.iterdir())


def _package_versions(packages: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
