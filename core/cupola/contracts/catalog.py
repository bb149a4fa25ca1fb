"""The contract of catalog sources."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

from msgspec import Struct

from cupola.contracts.cache import Staging
from cupola.contracts.models import ModelInfo, Progress, RemoteFile
from cupola.contracts.provider import Device

Refresh = Callable[[], Awaitable[Sequence[RemoteFile]]]


class Downloader(Protocol):
    """Downloads files over HTTP on behalf of a catalog source."""

    async def fetch(
        self,
        files: Sequence[RemoteFile],
        model: ModelInfo,
        folder: Path,
        progress: Progress,
        *,
        refresh: Refresh | None = None,
    ) -> None:
        """Download all files into the folder and verify size and digest. Partial files of an earlier try are resumed.

        Args:
            files: The files with their URLs.
            model: The model, for error messages.
            folder: The target folder, created if missing.
            progress: Called as data arrives.
            refresh: Returns the files with new URLs, for signed URLs that expire during the download (401, 403).

        Raises:
            DownloadError, DigestMismatchError, DiskFullError, CacheError: Partial files remain for a retry.
        """


class ImportOptions(Struct, frozen=True):
    """Options for importing a local file or folder as a model.

    Attributes:
        name: The model's id without device and version; empty derives it from the file name.
        alias: The alias; empty uses the name.
        layout: The storage format of the weights for importers that convert; empty uses the importer's default.
        link: Hard-link files to the source folder instead of copying, where the file system supports it.
    """

    name: str = ""
    alias: str = ""
    layout: str = ""
    link: bool = False


class CatalogSource(ABC):
    """Lists models and provides their files. Its methods are called in the service process, on the event loop.

    The smallest implementation::

        class MyModels(CatalogSource):
            name = "mine"

            async def models(self):
                return [ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source=self.name, publisher="me")]

            async def files(self, model):
                return [RemoteFile("model.onnx", 1_000, "https://models.example/tiny/model.onnx", "ab12...")]

    Every method may raise `CupolaError`. Any other exception counts as a bug of the plugin: it is logged, and this
    source is skipped. Any await may be cancelled.

    Attributes:
        name: Unique name of the source, for listings and settings.
        listed_at_unix: When the result of `models` was obtained, in seconds since 1970, for sources that cache it;
            None if it is always current.
    """

    name: ClassVar[str]
    listed_at_unix: float | None = None

    def use_devices(self, devices: Sequence[Device]) -> None:  # noqa: B027 - most sources list for every machine
        """Receive the devices of this machine. A source may still list models for others.

        Called before all other methods, and again when the devices change.
        """

    @abstractmethod
    async def models(self) -> Sequence[ModelInfo]:
        """List all models. Called at start and for every listing, so remote results should be cached."""

    @abstractmethod
    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:
        """List the files of a model. Called again during a download when a URL has expired."""

    async def claim(self, path: Path, options: ImportOptions) -> ModelInfo | None:  # noqa: ARG002 - for those who override it
        """Describe the model that a local file or folder contains; None if this source cannot import it.

        The engine then calls `fetch` with that model.

        Raises:
            ModelFormatError: The source recognizes the format, but the file is damaged or not supported.
        """
        return None

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:
        """Write the model's files into `staging.path`. The default implementation downloads what `files` lists.

        On failure, files that a later try can use may remain in the staging folder; others must be removed.

        Raises:
            DownloadError: A file could not be downloaded; `DigestMismatchError` if its content is wrong.
            DiskFullError: The disk is full.
        """
        refresh = partial(self.files, model)
        await downloader.fetch(await refresh(), model, staging.path, progress, refresh=refresh)
