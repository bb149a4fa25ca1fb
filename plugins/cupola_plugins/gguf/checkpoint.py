"""A language model read from a GGUF file: its weights, in the order that the ONNX graph wants them."""

from collections.abc import Iterator

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from cupola import ModelFormatError
from cupola_plugins.gguf.architecture import Hyperparameters, read_hyperparameters
from cupola_plugins.gguf.container import GgufFile, TensorEntry
from cupola_plugins.gguf.quantize import EMBEDDING_BLOCK, Blocks, Float32

EMBEDDING = "token_embd.weight"
FINAL_NORM = "output_norm.weight"
HEAD = "output.weight"

_TENSOR_TYPES = {
    GGMLQuantizationType.F32,
    GGMLQuantizationType.F16,
    GGMLQuantizationType.BF16,
    GGMLQuantizationType.Q4_0,
    GGMLQuantizationType.Q4_1,
    GGMLQuantizationType.Q5_0,
    GGMLQuantizationType.Q5_1,
    GGMLQuantizationType.Q8_0,
    GGMLQuantizationType.Q2_K,
    GGMLQuantizationType.Q3_K,
    GGMLQuantizationType.Q4_K,
    GGMLQuantizationType.Q5_K,
    GGMLQuantizationType.Q6_K,
    GGMLQuantizationType.IQ4_NL,
    GGMLQuantizationType.IQ4_XS,
}


class LlamaCheckpoint:
    """The weights of a decoder. Nothing is read until it is asked for, and nothing is kept.

    Attributes:
        hyperparameters: Its sizes.
        has_own_head: False when the embedding serves as the output matrix too.

    Raises:
        ModelFormatError: A tensor is missing, unknown, of another size or type than expected, or damaged.
    """

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self.hyperparameters = read_hyperparameters(file.path, file.metadata)
        self.has_own_head = HEAD in file.tensors
        self._check_tensors()

    def vector(self, name: str) -> Float32:
        """Return a norm's weights, [size]."""
        return self._dequantized(self._file.tensors[name])

    def matrix(self, *names: str) -> Float32:
        """Return one matrix, or several one below the other, [rows, columns]."""
        parts = [self._dequantized(self._file.tensors[name])[self._row_order(name)] for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def exact_blocks(self, name: str) -> Blocks | None:
        """Return a matrix unchanged that the file holds as 8-bit blocks of 32; None if it holds something else."""
        entry = self._file.tensors[name]
        if entry.kind is not GGMLQuantizationType.Q8_0:
            return None
        rows, columns = entry.shape
        raw = self._file.read(entry).reshape(rows, columns // EMBEDDING_BLOCK, 2 + EMBEDDING_BLOCK)
        scales = np.ascontiguousarray(raw[..., :2]).view("<f2")[..., 0].astype(np.float32)
        self._require_finite(scales, name)
        return Blocks(values=raw[..., 2:] ^ np.uint8(0x80), scales=scales)  # int8 to uint8 with zero point 128

    def _refusal(self, detail: str) -> ModelFormatError:
        return ModelFormatError(path=str(self._file.path), detail=detail)

    def _check_tensors(self) -> None:
        found = self._file.tensors
        if self.hyperparameters.layers > len(found):
            raise self._refusal(f"announces {self.hyperparameters.layers} layers but holds {len(found)} tensors.")
        expected = dict(_expected_shapes(self.hyperparameters))
        for name, shape in expected.items():
            if name not in found and name != HEAD:
                raise self._refusal(f"lacks the tensor {name!r}. Download or convert the model again.")
            if name in found and found[name].shape != shape:
                raise self._refusal(f"holds {name!r} with the shape {found[name].shape} instead of {shape}.")
        for name, entry in found.items():
            if name not in expected:
                raise self._refusal(
                    f"holds the tensor {name!r}, which is not supported, and ignoring it would give wrong answers. "
                    f"Use a model without it."
                )
            if entry.kind not in _TENSOR_TYPES:
                raise self._refusal(
                    f"holds {name!r} in the tensor type {entry.kind.name}, which is not supported. Use a GGUF in one "
                    f"of: {', '.join(sorted(kind.name for kind in _TENSOR_TYPES))}."
                )

    def _dequantized(self, entry: TensorEntry) -> Float32:
        raw = self._file.read(entry)
        block, block_bytes = GGML_QUANT_SIZES[entry.kind]
        *rows, columns = entry.shape
        with np.errstate(all="ignore"):  # damaged scales overflow; the result is refused below
            values = dequantize(raw.reshape(*rows, columns // block * block_bytes), entry.kind)
        self._require_finite(values, entry.name)
        return np.asarray(values, np.float32)

    def _require_finite(self, values: Float32, name: str) -> None:
        if not np.isfinite(values).all():
            raise self._refusal(f"is damaged: {name!r} holds values that are no numbers. Download the file again.")

    def _row_order(self, name: str) -> slice | NDArray[np.intp]:
        """Return the order that puts the two halves of every rotated head one after the other again."""
        sizes = self.hyperparameters
        heads = {"attn_q": sizes.heads, "attn_k": sizes.kv_heads}.get(name.removesuffix(".weight").rpartition(".")[2])
        if heads is None or not sizes.architecture.interleaves_rotary_rows:
            return slice(None)
        pairs = np.arange(heads * sizes.head_size).reshape(heads, sizes.head_size // 2, 2)
        return pairs.swapaxes(1, 2).reshape(-1)


def _expected_shapes(sizes: Hyperparameters) -> Iterator[tuple[str, tuple[int, ...]]]:
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
    yield EMBEDDING, (sizes.vocabulary, sizes.hidden)
    yield FINAL_NORM, (sizes.hidden,)
    yield HEAD, (sizes.vocabulary, sizes.hidden)
    for layer in range(sizes.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (sizes.hidden,)
        yield block + "attn_q.weight", (queries, sizes.hidden)
        yield block + "attn_k.weight", (keys, sizes.hidden)
        yield block + "attn_v.weight", (keys, sizes.hidden)
        yield block + "attn_output.weight", (sizes.hidden, queries)
        yield block + "ffn_norm.weight", (sizes.hidden,)
        yield block + "ffn_gate.weight", (sizes.intermediate, sizes.hidden)
        yield block + "ffn_up.weight", (sizes.intermediate, sizes.hidden)
        yield block + "ffn_down.weight", (sizes.hidden, sizes.intermediate)
