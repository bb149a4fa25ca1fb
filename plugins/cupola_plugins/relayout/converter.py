"""The model converter for ONNX model folders."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import anyio

from cupola.catalog import ModelConverter, Progress, Settings, hookimpl
from cupola_plugins.gguf.converter import run_subprocess
from cupola_plugins.gguf.files import Layout

_KNOWN_OPERATORS = (b"MatMulNBits", b"MatMulIntegerToFloat")


class OnnxRelayout(ModelConverter):
    """Converts decoders that use MatMulNBits, or the integer GEMM that Cupola's GGUF importer writes."""

    name = "relayout"

    def layouts(self, source: Path) -> Sequence[str]:
        """Return every layout for a folder whose graph has matrices that can be dequantized."""
        try:
            if not (source / "genai_config.json").is_file():
                return ()
            graph = (source / "model.onnx").read_bytes()
        except OSError:
            return ()
        return tuple(layout.value for layout in Layout) if any(name in graph for name in _KNOWN_OPERATORS) else ()

    async def convert(self, source: Path, folder: Path, *, layout: str, progress: Progress) -> None:
        """Convert the folder in a separate process. Cancellation kills it and removes the output folder."""
        # -P: a stray numpy.py in the current directory must not become the library.
        command = [sys.executable, "-P", "-m", "cupola_plugins.relayout", str(source), str(folder)]
        try:
            await run_subprocess([*command, "--layout", Layout(layout).value], source, progress)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
            raise


@hookimpl
def model_converters(settings: Settings) -> Iterable[ModelConverter]:  # noqa: ARG001 - the converter has no settings
    """Contribute the converter."""
    return [OnnxRelayout()]
