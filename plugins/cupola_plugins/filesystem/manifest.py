"""`cupola.manifest.json`: the description of a cached model, with the size and digest of each file."""

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
# Written at commit; and the suffix of incomplete downloads. Neither is part of a model.
_OWN = (MANIFEST, FOUNDRY_MANIFEST)
_UNFINISHED = ".part"
_READ_BYTES = 1 << 20


class FileRecord(Struct, frozen=True):
    """A file at the time of the commit.

    Attributes:
        path: Relative to the model's folder, with forward slashes.
        size_bytes: Its size.
        sha256: Its digest, in hex.
    """

    path: str
    size_bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    """The content of the file.

    Attributes:
        model: The description of the model.
        files: Its files, sorted by path.
        committed_unix: The time of the commit, in seconds.
        root: The folder of genai_config.json, usually ".".
        format: The version of this format.
    """

    model: ModelInfo
    files: tuple[FileRecord, ...]
    committed_unix: int
    root: str = "."
    format: int = 1

    @property
    def size_bytes(self) -> int:
        """The total size of the files."""
        return sum(file.size_bytes for file in self.files)


def decode(data: bytes) -> Manifest:
    """Decode a manifest.

    Raises:
        ValueError: It is damaged.
    """
    return msgspec.json.decode(data, type=Manifest)


def encode(manifest: Manifest) -> bytes:
    """Encode a manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def encode_for_foundry(model: ModelInfo) -> bytes:
    """Encode the inference_model.json by which Foundry Local recognizes a model. It sets no prompt template."""
    return msgspec.json.format(msgspec.json.encode({"Name": model.id, "PromptTemplate": None}), indent=2) + b"\n"


def record(folder: Path, model: ModelInfo) -> Manifest | None:
    """Flush and hash every file of a folder; return None if it has no genai_config.json. Blocks for long.

    Removes incomplete downloads.
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
    """Hash the files of a folder with a genai_config.json, without changing it. Blocks for long."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in _OWN]
    files = tuple(_record_file(path, path.relative_to(folder).as_posix(), flushes=False) for path in paths)
    return Manifest(model, files, int(time.time()))


def missing_file(folder: Path, manifest: Manifest) -> str | None:
    """Return the first file that is missing or has another size. Digests take seconds: see `verify`."""
    for file in manifest.files:
        try:
            if (folder / file.path).stat().st_size != file.size_bytes:
                return file.path
        except OSError:
            return file.path
    return None


def flush(path: Path) -> None:
    """Flush a file or folder to disk. Does nothing for folders on Windows, which cannot flush them."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _record_file(path: Path, name: str, *, flushes: bool = True) -> FileRecord:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            from_thread.check_cancelled()
            digest.update(data)
    if flushes:
        flush(path)
    return FileRecord(name, path.stat().st_size, digest.hexdigest())
