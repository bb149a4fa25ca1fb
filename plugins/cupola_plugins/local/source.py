"""The catalog source of models that lie on this machine, outside of the cache."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from anyio import from_thread, to_thread

from cupola.catalog import (
    CatalogSource,
    Downloader,
    ImportOptions,
    ModelInfo,
    Progress,
    ProgressEvent,
    RemoteFile,
    Staging,
)
from cupola.errors import CacheError, DownloadError, ModelFormatError
from cupola_plugins.gguf import Layout, import_in_subprocess, is_gguf
from cupola_plugins.local import folder as folders
from cupola_plugins.local.folder import id_and_alias, publisher_of

_COPY_BYTES = 8 << 20


class LocalModels(CatalogSource):
    """Takes in folders with a genai_config.json, and GGUF files. Lists nothing: the cache lists what was taken in."""

    name: ClassVar[str] = "local"

    def __init__(self) -> None:
        self._offered: dict[str, tuple[Path, ImportOptions]] = {}

    async def models(self) -> Sequence[ModelInfo]:
        """Return nothing; see above."""
        return []

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:  # noqa: ARG002 - nothing has an address
        """Return nothing; see `fetch`."""
        return []

    async def claim(self, path: Path, options: ImportOptions) -> ModelInfo | None:
        """Describe a folder with a genai_config.json, or a GGUF file; None for anything else.

        Raises:
            ModelFormatError: It is one of those, but damaged, or of an architecture that is not supported.
        """
        described = await to_thread.run_sync(_described, path, options)
        if described is None:
            return None
        info, place = described
        self._offered[info.id] = place, options
        return info

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:  # noqa: ARG002
        """Bring what was offered into the staging folder."""
        if model.id not in self._offered:
            raise DownloadError(model=model.id, detail="it was imported from this machine and can only be so again")
        path, options = self._offered[model.id]
        await staging.discard()  # what an earlier try left may be of another state of the source
        if path.is_file():
            await import_in_subprocess(path, staging.path, layout=_layout(options.layout), progress=progress)
            return
        try:
            await to_thread.run_sync(_bring, path, staging.path, options.link, progress)
        except OSError as error:
            raise CacheError.from_os(error, staging.path, needed_bytes=model.size_bytes) from error


def _described(path: Path, options: ImportOptions) -> tuple[ModelInfo, Path] | None:
    """Describe what lies there, and say where exactly."""
    path = path.expanduser().absolute()
    if root := folders.model_root(path):
        if options.layout:
            raise ModelFormatError(path=str(path), detail="is a model already; only files such as GGUF take a layout")
        return folders.describe(root, options, source=LocalModels.name), root
    if is_gguf(path):
        return _describe_gguf(path, options), path
    return None


def _describe_gguf(path: Path, options: ImportOptions) -> ModelInfo:
    """Describe a GGUF file from its header."""
    # Heavy, and needed by nobody who imports no GGUF.
    from cupola_plugins.gguf.checkpoint import Checkpoint  # noqa: PLC0415
    from cupola_plugins.gguf.container import GgufFile  # noqa: PLC0415
    from cupola_plugins.gguf.weights import stored_bytes  # noqa: PLC0415

    layout = _layout(options.layout)
    with GgufFile(path) as file:
        checkpoint = Checkpoint(file)
        size_bytes = stored_bytes(checkpoint.hyperparameters, layout, own_head=checkpoint.has_own_head)
        template = str(file.metadata.get("tokenizer.chat_template", ""))
        license_name = str(file.metadata.get("general.license", ""))
    model_id, alias = id_and_alias(path, options, suffix="generic-cpu")
    return ModelInfo(
        id=model_id,
        alias=alias,
        source=LocalModels.name,
        publisher=publisher_of(path),
        display_name=model_id.rpartition(":")[0],
        task="chat-completion" if template else "text-generation",
        size_bytes=size_bytes,
        context_length=checkpoint.hyperparameters.context,
        license=license_name,
        supports_tool_calling="tools" in template,
        uri=path.resolve().as_uri(),
    )


def _layout(name: str) -> Layout:
    try:
        return Layout(name) if name else Layout.INT8_ROWS
    except ValueError:
        known = ", ".join(layout.value for layout in Layout)
        raise ModelFormatError(path=name, detail=f"is no layout; there are {known}") from None


def _bring(root: Path, folder: Path, link: bool, progress: Progress) -> None:
    bring_files(folders.model_files(root), root, folder, link=link, progress=progress)


def bring_files(files: Sequence[Path], root: Path, folder: Path, *, link: bool, progress: Progress) -> None:
    """Put every file at its place below `folder`. Links are followed, so that no file leads out of it.

    ONNX Runtime refuses weights that lie elsewhere than the model that names them, which is what the symbolic links of
    Hugging Face's cache amount to; hard links are files like any other.

    Args:
        files: What to bring.
        root: The folder they are in.
        folder: Where to put them; made if need be.
        link: Share the file where the file system can, by a hard link; else copy.
        progress: Told on the event loop.

    Raises:
        OSError: A file cannot be read or written.
    """
    sizes = [path.stat().st_size for path in files]
    done, total = 0, sum(sizes)
    for path, size in zip(files, sizes, strict=True):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (link and _linked(path.resolve(), target)):
            _copy(path, target, done, total, progress)
        done += size
        _tell(progress, done, total)


def _linked(path: Path, target: Path) -> bool:
    """Share a file; False where that cannot be: another disk, another's file, a file system without links."""
    try:
        os.link(path, target)
    except OSError:
        return False
    return True


def _copy(path: Path, target: Path, done: int, total: int, progress: Progress) -> None:
    with path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as copy:
        while data := source.read(_COPY_BYTES):
            rest = memoryview(data)
            while rest:
                rest = rest[copy.write(rest) :]
            done += len(data)
            _tell(progress, done, total)


def _tell(progress: Progress, done: int, total: int) -> None:
    from_thread.check_cancelled()
    from_thread.run_sync(progress, ProgressEvent("import", done, total))
