"""Errors about models: finding, downloading, caching and reading them."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class ModelNotFoundError(CupolaError):
    """No catalog source and no cache store knows the name."""

    model: str
    near: str = ""

    def __str__(self) -> str:
        hint = f" Did you mean {self.near}?" if self.near else ""
        return f"No model is called {self.model!r}.{hint} `cupola model list` shows what there is."


@dataclass(eq=False, kw_only=True)
class ModelNotCachedError(CupolaError):
    """The model is in a catalog, but its files are not on this machine."""

    model: str

    def __str__(self) -> str:
        return (
            f"The model {self.model!r} is not downloaded yet. Run `cupola model download {self.model}`, "
            f"or set models.auto_download = true."
        )


@dataclass(eq=False, kw_only=True)
class ModelBusyError(CupolaError):
    """An unload was refused because turns are running."""

    model: str
    turns: int

    def __str__(self) -> str:
        return f"{self.model!r} is answering {self.turns} request(s). Wait for them, or unload with force."


@dataclass(eq=False, kw_only=True)
class CatalogError(CupolaError):
    """A catalog source cannot list its models."""

    source: str
    detail: str

    def __str__(self) -> str:
        return f"The catalog {self.source!r} cannot be listed: {self.detail}. Models on this machine work without it."


@dataclass(eq=False, kw_only=True)
class DownloadError(CupolaError):
    """Files could not be fetched. Trying again resumes where it stopped, where the source allows it."""

    model: str
    detail: str

    def __str__(self) -> str:
        return f"Downloading {self.model!r} failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class DigestMismatchError(DownloadError):
    """A file arrived whole but is not the announced one; it was deleted."""

    file: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return (
            f"Downloading {self.model!r} failed: {self.file} should have {self.expected} but has {self.actual}. "
            f"The file was deleted; try again, and if it happens again, distrust the source or a proxy on the way."
        )


@dataclass(eq=False, kw_only=True)
class CacheError(CupolaError):
    """The cache folder cannot be used."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"The model cache at {self.path} cannot be used: {self.detail}. Set cache.dir to a folder you may write."

    @staticmethod
    def from_os(error: OSError, folder: Path, *, needed_bytes: int = 0) -> "CacheError":
        """Explain what the operating system says about a cache folder; a full disk is a `DiskFullError`."""
        detail = error.strerror or str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return CacheError(path=str(folder), detail=detail)
        free_bytes = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
        return DiskFullError(path=str(folder), detail=detail, needed_bytes=needed_bytes, free_bytes=free_bytes)


@dataclass(eq=False, kw_only=True)
class DiskFullError(CacheError):
    """There is not enough room for the model."""

    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        return (
            f"Not enough room in {self.path}: {self.needed_bytes / 1e6:,.0f} MB needed, "
            f"{self.free_bytes / 1e6:,.0f} MB free. Free some space or set cache.dir to another disk."
        )


@dataclass(eq=False, kw_only=True)
class ModelFormatError(CupolaError):
    """A model file is damaged, or of a kind that is not supported."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"
