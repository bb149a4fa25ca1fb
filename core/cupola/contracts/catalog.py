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
    """Fetches files over HTTP for whoever has a list of them."""

    async def fetch(
        self,
        files: Sequence[RemoteFile],
        model: ModelInfo,
        folder: Path,
        progress: Progress,
        *,
        refresh: Refresh | None = None,
    ) -> None:
        """Bring every file into the folder, whole and checked against size and digest; resumes what is there.

        Args:
            files: What to bring, each with its address.
            model: For messages.
            folder: Made if need be.
            progress: Told of every piece that arrived.
            refresh: Lists the files again with new addresses, for when a signed one expires underway (401, 403).

        Raises:
            DownloadError, DigestMismatchError, DiskFullError, CacheError: What is useful for a retry stays.
        """


class ImportOptions(Struct, frozen=True):
    """How somebody wants a file or folder of this machine to become a model.

    Attributes:
        name: The id without device and version; empty takes that of the file.
        alias: Empty takes the name.
        layout: How an importer stores weights; empty takes its default.
        link: Whether files may be shared with the folder they come from, where the file system can.
    """

    name: str = ""
    alias: str = ""
    layout: str = ""
    link: bool = False


class CatalogSource(ABC):
    """Lists models and brings their files. Lives in the service process, on the event loop.

    The smallest one::

        class MyModels(CatalogSource):
            name = "mine"

            async def models(self):
                return [ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source=self.name, publisher="me")]

            async def files(self, model):
                return [RemoteFile("model.onnx", 1_000, "https://models.example/tiny/model.onnx", "ab12...")]

    Every method may raise `CupolaError`; anything else counts as a fault of the plugin, is logged, and costs only
    this source. Cancellation may arrive at any await.

    Attributes:
        listed_at_unix: When what `models` returns was obtained, for sources that remember an answer of the network;
            None where a listing is always current.
    """

    name: ClassVar[str]
    listed_at_unix: float | None = None

    def use_devices(self, devices: Sequence[Device]) -> None:  # noqa: B027 - most sources list for every machine
        """Take note of the devices of this machine; listing others is no fault.

        Called before anything else, and again when others are found.
        """

    @abstractmethod
    async def models(self) -> Sequence[ModelInfo]:
        """List everything this source offers. Called at start and whenever a listing is asked for: cache it."""

    @abstractmethod
    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:
        """Say what to download for a model. Called again underway when an address has expired."""

    async def claim(self, path: Path, options: ImportOptions) -> ModelInfo | None:  # noqa: ARG002 - for those who override it
        """Describe what a file or folder of this machine would be as a model; None if it is of no kind known here.

        Whoever wants it then calls `fetch` with that model.

        Raises:
            ModelFormatError: It is of a kind known here, but damaged or not supported.
        """
        return None

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:
        """Bring the model's files into `staging.path`. The default downloads what `files` lists.

        What a later try can use may stay in the staging folder when this raises; anything else must be removed.

        Raises:
            DownloadError: Something did not arrive; `DigestMismatchError` if it arrived wrong.
            DiskFullError: The disk is full.
        """
        refresh = partial(self.files, model)
        await downloader.fetch(await refresh(), model, staging.path, progress, refresh=refresh)
