"""GGUF files as a kind of source that models are made of."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cupola.catalog import ModelConverter, Progress, Settings, hookimpl
from cupola_plugins.gguf.isolated import import_in_subprocess
from cupola_plugins.gguf.layout import Layout

_MAGIC = b"GGUF"


class GgufConverter(ModelConverter):
    """Imports GGUF files of the architectures that `architecture.ARCHITECTURES` names."""

    name = "gguf"

    def layouts(self, source: Path) -> Sequence[str]:
        """Offer every layout for a file that begins as GGUF files do, whatever its name."""
        try:
            with source.open("rb") as file:
                is_gguf = file.read(len(_MAGIC)) == _MAGIC
        except OSError:  # a folder, or nothing at all
            return ()
        return tuple(layout.value for layout in Layout) if is_gguf else ()

    async def convert(self, source: Path, folder: Path, *, layout: str, progress: Progress) -> None:
        """Import the file in a process of its own."""
        await import_in_subprocess(source, folder, layout=Layout(layout), progress=progress)


@hookimpl
def model_converters(settings: Settings) -> Iterable[ModelConverter]:  # noqa: ARG001 - nothing of it can be set
    """Contribute the converter."""
    return [GgufConverter()]
