"""`cupola.manifest.json`: what a cached model is, and the size and digest of each of its files."""

import hashlib
import os
import time
from pathlib import Path

import msgspec
from anyio import from_thread
from msgspec import Struct

from cupola.cache import ModelInfo

MANIFEST = "cupola.manifest.json"
FOUNDRY_MANIFEST = "inference_model.json"
GENAI_CONFIG = "genai_config.json"
# Ours, written at commit; and what downloads left unfinished, which is no part of a model.
_OWN = (MANIFEST, FOUNDRY_MANIFEST)
_UNFINISHED = ".part"
_READ_BYTES = 1 << 20


class FileRecord(Struct, frozen=True):
    """One file, as it was when the model was committed. `path` is relative, with forward slashes."""

    path: str
    size_bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    """The content of the file. `root` is the folder of genai_config.json, "." as a rule."""

    model: ModelInfo
    files: tuple[FileRecord, ...]
    committed_unix: int
    root: str = "."
    format: int = 1

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


def decode(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: It is damaged.
    """
    return msgspec.json.decode(data, type=Manifest)


def encode(manifest: Manifest) -> bytes:
    """Write a manifest, for people too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def encode_for_foundry(model: ModelInfo) -> bytes:
    """Write the file by which Foundry Local knows a cached model. No template: the model brings its own."""
    return msgspec.json.format(msgspec.json.encode({"Name": model.id, "PromptTemplate": None}), indent=2) + b"\n"


def record(folder: Path, model: ModelInfo) -> Manifest | None:
    """Flush, measure and digest every file of a folder; None if it holds no genai_config.json. Blocks for long.

    Removes what downloads left unfinished.
    """
    paths = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name.endswith(_UNFINISHED):
            path.unlink()
        elif path.name not in _OWN:
            paths.append(path)
    roots = sorted((path.parent for path in paths if path.name == GENAI_CONFIG), key=lambda root: len(root.parts))
    if not roots:
        return None
    files = tuple(_record_file(path, path.relative_to(folder).as_posix()) for path in paths)
    return Manifest(model, files, int(time.time()), roots[0].relative_to(folder).as_posix())


def describe(folder: Path, model: ModelInfo) -> Manifest:
    """Measure and digest the files of a folder with a genai_config.json, and leave it as it is. Blocks for long."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in _OWN]
    files = tuple(_record_file(path, path.relative_to(folder).as_posix(), durably=False) for path in paths)
    return Manifest(model, files, int(time.time()))


def missing_file(folder: Path, manifest: Manifest) -> str | None:
    """Name the first file that is gone or has another size. Digests are for `verify`: they take seconds."""
    for file in manifest.files:
        try:
            if (folder / file.path).stat().st_size != file.size_bytes:
                return file.path
        except OSError:
            return file.path
    return None


def flush(path: Path) -> None:
    """Make a file or a folder survive a power cut. Windows has no such thing for folders."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _record_file(path: Path, name: str, *, durably: bool = True) -> FileRecord:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            from_thread.check_cancelled()
            digest.update(data)
    if durably:
        flush(path)
    return FileRecord(name, path.stat().st_size, digest.hexdigest())
