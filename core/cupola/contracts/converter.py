"""The contract of model converters."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from cupola.contracts.models import Progress


class ModelConverter(ABC):
    """Converts a file in another format, or a model folder in another layout, to a model folder.

    Its methods are called in the service process, on the event loop; heavy work belongs in a separate process. The
    smallest implementation::

        class Unzip(ModelConverter):
            name = "zip"

            def layouts(self, source):
                return ["as-is"] if source.suffix == ".zip" else []

            async def convert(self, source, folder, *, layout, progress):
                await anyio.to_thread.run_sync(shutil.unpack_archive, source, folder)
    """

    name: ClassVar[str]

    @abstractmethod
    def layouts(self, source: Path) -> Sequence[str]:
        """List the layouts that `convert` can produce from a file or folder, recommended first; empty if none.

        A layout is the storage format of the weights, such as "int8-rows" or "int4-blocks". Must not read weights.
        """

    @abstractmethod
    async def convert(self, source: Path, folder: Path, *, layout: str, progress: Progress) -> None:
        """Write a model folder, including genai_config.json, into the empty `folder`.

        On failure or cancellation nothing of the output remains.

        Raises:
            ModelFormatError: The source is damaged or not supported.
            DiskFullError, CacheError: The folder cannot be written.
        """
