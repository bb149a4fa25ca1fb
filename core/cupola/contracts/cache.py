"""The contract of cache stores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from cupola.contracts.models import CachedModel, ModelInfo


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
