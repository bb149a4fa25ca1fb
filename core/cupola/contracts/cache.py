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
    """What came of reading a cached model again, byte for byte.

    Attributes:
        model_id: Which one; "" where the folder does not even say that.
        path: Its folder.
        faults: Files that are not as they were when the model was committed, each with what is wrong.
        has_digests: Whether there was something to compare with: who wrote the model may have left none.
    """

    model_id: str
    path: str
    faults: tuple[str, ...] = ()
    has_digests: bool = True


class Staging(ABC):
    """A private folder in which one model is assembled. Leaving the context without `commit` gives it back.

    One owner at a time, across processes. What is left in the folder then waits for the next `reserve` of the same
    model, so that a download can resume; `discard` empties it.
    """

    path: Path

    @abstractmethod
    async def commit(self) -> CachedModel:
        """Record size and digest of every file, then move the folder into place in one step.

        Raises:
            CacheError: The move failed; nothing is visible in the cache.
            ModelFormatError: There is no genai_config.json among the files.
        """

    @abstractmethod
    async def discard(self) -> None:
        """Remove everything staged."""

    @abstractmethod
    async def release(self) -> None:
        """Give the staging folder back, keeping what is in it. Harmless after `commit`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


class CacheStore(ABC):
    """Keeps whole models. Lives in the service process, on the event loop.

    All methods may raise `CacheError`. A model that `list` or `find` returns is whole: every file was checked
    before it became visible.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def location(self) -> Path:
        """The folder, for people."""

    @abstractmethod
    async def list(self) -> Sequence[CachedModel]:
        """List every whole model. A broken folder is skipped and logged."""

    @abstractmethod
    async def find(self, model_id: str) -> CachedModel | None:
        """Look one model up by its exact id."""

    @abstractmethod
    async def reserve(self, model: ModelInfo) -> Staging:
        """Open the staging folder of a model, waiting while another process holds it.

        Raises:
            DiskFullError: Less free space than `model.size_bytes`.
            CacheError: The folder cannot be written.
        """

    @abstractmethod
    async def remove(self, model_id: str) -> bool:
        """Delete a model; False if it was not there."""

    async def verify(self, model_id: str | None, progress: Progress) -> Sequence[Verification]:  # noqa: ARG002 - for those who override it
        """Read a model, or all of them, again and compare with what was recorded; broken ones are among them."""
        raise self._cannot("verify models")

    async def export(self, model_id: str, file: Path, progress: Progress) -> None:  # noqa: ARG002 - as above
        """Write a model into one file, for a machine without network.

        Raises:
            ModelFormatError: A file of the model is not as it was when it was committed.
        """
        raise self._cannot("export models")

    async def import_file(self, file: Path, progress: Progress) -> CachedModel:  # noqa: ARG002 - as above
        """Take in a model from a file that `export` wrote; one of its id that is there already is returned as it is.

        Raises:
            ModelFormatError: It is no such file, or damaged. Nothing of it is left.
        """
        raise self._cannot("import models")

    def _cannot(self, what: str) -> CacheError:
        return CacheError(path=str(self.location), detail=f"the cache store {self.name!r} cannot {what}")
