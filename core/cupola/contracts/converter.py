"""The contract of model converters."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from cupola.contracts.models import Progress


class ModelConverter(ABC):
    """Makes a model folder out of something else: a file in another format, or a folder in another layout.

    Lives in the service process, on the event loop; heavy work belongs into a process of its own. The smallest one::

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
        """Name the layouts that `convert` can make of a file or folder, the recommended one first; none if it cannot.

        A layout says how weights are stored: "int8-rows", "int4-blocks". Looks, but reads no weights.
        """

    @abstractmethod
    async def convert(self, source: Path, folder: Path, *, layout: str, progress: Progress) -> None:
        """Write a model folder, with its genai_config.json, into the empty `folder`.

        Raises:
            ModelFormatError: The source is damaged or not supported. Nothing of the output is left, nor is it when
                cancelled.
            DiskFullError, CacheError: The folder cannot be written.
        """
