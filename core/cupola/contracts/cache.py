"""The contract of cache stores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from msgspec import Struct

from cupola.contracts.models import CachedModel, ModelInfo, Progress
from cupola.errors import CacheError


class Verification(Struct, frozen=True):
    """The result of verifying a cached model.

    Attributes:
        model_id: The model's id; "" if the folder does not tell.
        path: The model's folder.
        faults: The files that differ from what was committed, each with the difference.
        has_digests: Whether digests were recorded; models written by other programs may have none.
    """

    model_id: str
    path: str
    faults: tuple[str, ...] = ()
    has_digests: bool = True


class Staging(ABC):
    """A private folder in which one model is assembled. Leaving the context without `commit` releases it.

    It has one owner at a time, across processes. The files in it remain for the next `reserve` of the same model, so
    that a download can resume; `discard` deletes them.
    """

    path: Path

    @abstractmethod
    async def commit(self) -> CachedModel:
        """Record size and digest of every file, then move the folder into the cache atomically.

        Raises:
            CacheError: The move failed; nothing is visible in the cache.
            ModelFormatError: The files do not include genai_config.json.
        """

    @abstractmethod
    async def discard(self) -> None:
        """Delete all staged files."""

    @abstractmethod
    async def release(self) -> None:
        """Release the folder and keep its files. Has no effect after `commit`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


class CacheStore(ABC):
    """Stores complete models. Its methods are called in the service process, on the event loop.

    All methods may raise `CacheError`. Every model that `list` or `find` returns is complete: each file was verified
    before the model became visible.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def location(self) -> Path:
        """The folder of the models, for display."""

    @abstractmethod
    async def list(self) -> Sequence[CachedModel]:
        """List all complete models. A damaged folder is skipped and logged."""

    @abstractmethod
    async def find(self, model_id: str) -> CachedModel | None:
        """Return the model with this exact id; None if it is not stored."""

    @abstractmethod
    async def reserve(self, model: ModelInfo) -> Staging:
        """Open the staging folder of a model, waiting while another process owns it.

        Raises:
            DiskFullError: The disk has less free space than `model.size_bytes`.
            CacheError: The folder cannot be written.
        """

    @abstractmethod
    async def remove(self, model_id: str) -> bool:
        """Delete a model; False if it was not stored."""

    async def verify(self, model_id: str | None, progress: Progress) -> Sequence[Verification]:  # noqa: ARG002 - for those who override it
        """Compare the files of a model, or of all models, with their recorded digests. Includes damaged folders."""
        raise self._cannot("verify models")

    async def export(self, model_id: str, file: Path, progress: Progress) -> None:  # noqa: ARG002 - as above
        """Write a model into one file, to copy it to a machine without network access.

        Raises:
            ModelFormatError: A file of the model differs from what was committed.
        """
        raise self._cannot("export models")

    async def import_file(self, file: Path, progress: Progress) -> CachedModel:  # noqa: ARG002 - as above
        """Import a model from a file that `export` wrote. If its id is already stored, return the stored model.

        Raises:
            ModelFormatError: The file has another format or is damaged; nothing was imported.
        """
        raise self._cannot("import models")

    def _cannot(self, what: str) -> CacheError:
        return CacheError(path=str(self.location), detail=f"the cache store {self.name!r} cannot {what}")
