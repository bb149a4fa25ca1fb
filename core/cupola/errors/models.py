"""Errors about models: finding, downloading, caching and reading them."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class ModelNotFoundError(CupolaError):
    """No catalog source lists the model and no cache store holds it. `near` names similar models."""

    model: str
    near: str = ""

    def __str__(self) -> str:
        hint = f" Did you mean {self.near}?" if self.near else ""
        return f"Unknown model {self.model!r}.{hint} Run `cupola model list` to see the available models."


@dataclass(eq=False, kw_only=True)
class ModelNotCachedError(CupolaError):
    """The model is in a catalog, but its files are not on this machine."""

    model: str

    def __str__(self) -> str:
        return (
            f"The model {self.model!r} has not been downloaded. Run `cupola model download {self.model}`, "
            f"or set models.auto_download = true."
        )


@dataclass(eq=False, kw_only=True)
class ModelBusyError(CupolaError):
    """A model cannot be unloaded because turns are running."""

    model: str
    turns: int

    def __str__(self) -> str:
        return f"{self.model!r} is processing {self.turns} request(s). Wait for them, or force the unload."


@dataclass(eq=False, kw_only=True)
class CatalogError(CupolaError):
    """A catalog source cannot list its models."""

    source: str
    detail: str

    def __str__(self) -> str:
        return f"The catalog {self.source!r} cannot be listed: {self.detail}. Cached models remain available."


@dataclass(eq=False, kw_only=True)
class DownloadError(CupolaError):
    """Files could not be downloaded. A retry resumes where the download stopped if the source supports it."""

    model: str
    detail: str

    def __str__(self) -> str:
        return f"Downloading {self.model!r} failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class DigestMismatchError(DownloadError):
    """A downloaded file does not match its digest. It was deleted."""

    file: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return (
            f"Downloading {self.model!r} failed: {self.file} should have {self.expected} but has {self.actual}. "
            f"The file was deleted. Try again; if the error persists, the source or a proxy may be altering the file."
        )


@dataclass(eq=False, kw_only=True)
class CacheError(CupolaError):
    """The cache folder cannot be read or written."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"The model cache at {self.path} cannot be used: {self.detail}. Set cache.dir to a writable folder."

    @staticmethod
    def from_os(error: OSError, folder: Path, *, needed_bytes: int = 0) -> "CacheError":
        """Convert an operating system error about a cache folder; a full disk becomes a `DiskFullError`."""
        detail = error.strerror or str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return CacheError(path=str(folder), detail=detail)
        free_bytes = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
        return DiskFullError(path=str(folder), detail=detail, needed_bytes=needed_bytes, free_bytes=free_bytes)


@dataclass(eq=False, kw_only=True)
class DiskFullError(CacheError):
    """The disk has too little free space for the model."""

    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        return (
            f"Not enough disk space in {self.path}: {self.needed_bytes / 1e6:,.0f} MB needed, "
            f"{self.free_bytes / 1e6:,.0f} MB free. Free some space or set cache.dir to another disk."
        )


@dataclass(eq=False, kw_only=True)
class ModelFormatError(CupolaError):
    """A model file is damaged or in an unsupported format."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"
