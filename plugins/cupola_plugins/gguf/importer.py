"""Imports a GGUF file. Runs in a separate process; see `converter`."""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from cupola.catalog import Progress, ProgressEvent
from cupola.errors import CacheError, CupolaError, DiskFullError, ModelFormatError
from cupola_plugins.gguf import files
from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.checkpoint import Checkpoint
from cupola_plugins.gguf.container import GgufFile
from cupola_plugins.gguf.files import Layout
from cupola_plugins.gguf.graph import PAST_KEY, PAST_VALUE, PRESENT_KEY, PRESENT_VALUE, Logits, build_graph
from cupola_plugins.gguf.onnx_model import WeightsFile
from cupola_plugins.gguf.tokenizer import GgufTokenizer
from cupola_plugins.gguf.weights import store_weights, stored_bytes

_GRAPHS_AND_TOKENIZER_BYTES = 4_000_000


def import_gguf(
    source: Path, folder: Path, *, layout: Layout = Layout.INT8_ROWS, progress: Progress | None = None
) -> None:
    """Turn a GGUF file into a folder that onnxruntime-genai loads. Blocks.

    Arguments and errors are those of `import_in_subprocess`.
    """
    with GgufFile(source) as file, _translate_memory_error(source):
        checkpoint = Checkpoint(file)
        tokenizer = GgufTokenizer(source, file.metadata)
        try:
            _write(checkpoint, tokenizer, folder, layout, progress)
        except BaseException:
            files.remove_from(folder)
            raise


class _LayerProgress:
    """Reports the number of finished layers."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def done(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(ProgressEvent("import", self._done, self._total, "layers"))


def require_disk_space(folder: Path, needed: int) -> None:
    """Raise `DiskFullError` where less than `needed` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(path=str(folder), detail="the disk is full", needed_bytes=needed, free_bytes=free)


@contextlib.contextmanager
def translate_disk_errors(folder: Path, needed: int) -> Iterator[None]:
    """Turn an `OSError` into a `DiskFullError` or a `CacheError` for the folder."""
    try:
        yield
    except CupolaError:
        raise
    except OSError as error:
        detail = error.strerror or str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise CacheError(path=str(folder), detail=detail) from error
        free = 0
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
        raise DiskFullError(path=str(folder), detail=detail, needed_bytes=needed, free_bytes=free) from error


def write_genai_config(folder: Path, sizes: Hyperparameters, tokenizer: GgufTokenizer) -> None:
    """Write genai_config.json. It sets no threads or other session options: the loader of the model does.

    Its keys are those of onnxruntime-genai 0.18 (https://onnxruntime.ai/docs/genai/reference/config.html).
    """
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": files.GRAPH,
        "head_size": sizes.head_size,
        "hidden_size": sizes.hidden,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": PAST_KEY,
            "past_value_names": PAST_VALUE,
        },
        "outputs": {"logits": "logits", "present_key_names": PRESENT_KEY, "present_value_names": PRESENT_VALUE},
    }
    model = {
        "type": sizes.architecture.genai_type,
        **({} if tokenizer.bos_id is None else {"bos_token_id": tokenizer.bos_id}),
        "eos_token_id": tokenizer.eos_ids[0] if len(tokenizer.eos_ids) == 1 else tokenizer.eos_ids,
        "pad_token_id": tokenizer.pad_id,
        "vocab_size": sizes.vocabulary,
        "context_length": sizes.context,
        "decoder": decoder,
    }
    search = {
        "do_sample": False,
        "max_length": sizes.context,
        "past_present_share_buffer": True,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    text = json.dumps({"model": model, "search": search}, indent=2)
    (folder / files.GENAI_CONFIG).write_text(text + "\n", "utf-8")


def _write(
    checkpoint: Checkpoint, tokenizer: GgufTokenizer, folder: Path, layout: Layout, progress: Progress | None
) -> None:
    sizes = checkpoint.hyperparameters
    needed = stored_bytes(sizes, layout, own_head=checkpoint.has_own_head) + _GRAPHS_AND_TOKENIZER_BYTES
    with translate_disk_errors(folder, needed):
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_from(folder)
        require_disk_space(folder, needed)
        with WeightsFile(folder / files.WEIGHTS) as weights:
            store_weights(checkpoint, weights, layout, _LayerProgress(sizes.layers, progress).done)
        for name, logits in ((files.GRAPH, Logits.ALL), (files.PICKED_GRAPH, Logits.PICKED)):
            (folder / name).write_bytes(build_graph(sizes, layout, weights.tensors, logits).SerializeToString())
        tokenizer.write(folder, context=sizes.context)
        write_genai_config(folder, sizes, tokenizer)


@contextlib.contextmanager
def _translate_memory_error(source: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        detail = "needs more memory than is free. Close other programs or use a smaller model."
        raise ModelFormatError(path=str(source), detail=detail) from error
