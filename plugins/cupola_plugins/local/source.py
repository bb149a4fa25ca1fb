"""The catalog source of models on this machine, outside of the cache."""

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
    """Imports folders with a genai_config.json, and GGUF files. Lists no models: the cache lists imported ones."""

    name: ClassVar[str] = "local"

    def __init__(self) -> None:
        self._claimed: dict[str, tuple[Path, ImportOptions]] = {}

    async def models(self) -> Sequence[ModelInfo]:
        """Return an empty list: the cache lists the imported models."""
        return []

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:  # noqa: ARG002 - no file has a URL
        """Return an empty list: `fetch` copies or converts."""
        return []

    async def claim(self, path: Path, options: ImportOptions) -> ModelInfo | None:
        """Describe a folder with a genai_config.json, or a GGUF file; None for anything else.

        Raises:
            ModelFormatError: The folder or file is damaged, or its architecture is not supported.
        """
        described = await to_thread.run_sync(_describe, path, options)
        if described is None:
            return None
        info, source = described
        self._claimed[info.id] = source, options
        return info

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:  # noqa: ARG002
        """Copy or convert a claimed model into the staging folder.

        Raises:
            DownloadError: The model was not claimed before.
            CacheError: The files cannot be read or written.
        """
        if model.id not in self._claimed:
            raise DownloadError(
                model=model.id,
                detail="it was imported from this machine and cannot be downloaded. Import it again",
            )
        path, options = self._claimed[model.id]
        await staging.discard()  # files of an earlier attempt may come from a different version of the source
        if path.is_file():
            await import_in_subprocess(path, staging.path, layout=_layout(options.layout), progress=progress)
            return
        try:
            await to_thread.run_sync(_copy_model, path, staging.path, options.link, progress)
        except OSError as error:
            raise CacheError.from_os(error, staging.path, needed_bytes=model.size_bytes) from error


def copy_files(files: Sequence[Path], root: Path, folder: Path, *, link: bool, progress: Progress) -> None:
    """Copy files to the same relative paths below `folder`, or hard-link them. Symbolic links are followed.

    ONNX Runtime refuses weights outside of the model's folder, and the symbolic links in Hugging Face's cache point
    outside. Hard links are ordinary files.

    Args:
        files: The files to copy.
        root: The folder that contains them.
        folder: The target folder; created if it does not exist.
        link: Hard-link where the file system supports it, else copy.
        progress: Called on the event loop.

    Raises:
        OSError: A file cannot be read or written.
    """
    sizes = [path.stat().st_size for path in files]
    done, total = 0, sum(sizes)
    for path, size in zip(files, sizes, strict=True):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (link and _try_link(path.resolve(), target)):
            _copy(path, target, done, total, progress)
        done += size
        _report(progress, done, total)


def _describe(path: Path, options: ImportOptions) -> tuple[ModelInfo, Path] | None:
    """Return the description of a model and the path of its folder or file; None if the path is neither."""
    path = path.expanduser().absolute()
    if root := folders.model_root(path):
        if options.layout:
            raise ModelFormatError(
                path=str(path),
                detail="is a model already. Only files to convert, such as GGUF, take a layout; leave out the layout",
            )
        return folders.describe(root, options, source=LocalModels.name), root
    if is_gguf(path):
        return _describe_gguf(path, options), path
    return None


def _describe_gguf(path: Path, options: ImportOptions) -> ModelInfo:
    """Describe a GGUF file from its header."""
    # Heavy imports, needed for GGUF files only.
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
        raise ModelFormatError(path=name, detail=f"is an unknown layout. Available: {known}") from None


def _copy_model(root: Path, folder: Path, link: bool, progress: Progress) -> None:
    copy_files(folders.model_files(root), root, folder, link=link, progress=progress)


def _try_link(path: Path, target: Path) -> bool:
    """Hard-link a file. Return False if that fails: another disk, another owner, a file system without links."""
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
            _report(progress, done, total)


def _report(progress: Progress, done: int, total: int) -> None:
    from_thread.check_cancelled()
    from_thread.run_sync(progress, ProgressEvent("import", done, total))
