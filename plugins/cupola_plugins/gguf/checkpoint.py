"""The weights of a language model in a GGUF file, in the row order that the ONNX graph expects."""

from collections.abc import Iterator

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from cupola.errors import ModelFormatError
from cupola_plugins.gguf.architecture import Hyperparameters, read_hyperparameters
from cupola_plugins.gguf.container import GgufFile, TensorEntry
from cupola_plugins.gguf.quantization import EMBEDDING_BLOCK, Blocks, Float32

EMBEDDING = "token_embd.weight"
FINAL_NORM = "output_norm.weight"
HEAD = "output.weight"
ROTARY_FACTORS = "rope_freqs.weight"
_OPTIONAL = {HEAD, ROTARY_FACTORS}

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


class Checkpoint:
    """The weights of a decoder. Each tensor is read on request; nothing is cached.

    Attributes:
        hyperparameters: Its sizes.
        has_own_head: False when the embedding is also used as the output matrix.

    Raises:
        ModelFormatError: A tensor is missing, unknown, of another size or type than expected, or damaged.
    """

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self.hyperparameters = read_hyperparameters(file.path, file.metadata)
        self.has_own_head = HEAD in file.tensors
        self._check_tensors()

    @property
    def rotary_factors(self) -> Float32 | None:
        """Divisors of the RoPE frequencies, float32 [head_size / 2]; None if the file has none."""
        return self.vector(ROTARY_FACTORS) if ROTARY_FACTORS in self._file.tensors else None

    def vector(self, *names: str) -> Float32:
        """Return one or more vectors, dequantized and concatenated: float32 [sum of sizes]."""
        return np.concatenate([self._dequantize(self._file.tensors[name]) for name in names])

    def matrix(self, *names: str) -> Float32:
        """Return one or more matrices, dequantized and stacked along the rows: float32 [rows, columns]."""
        parts = [self._dequantize(self._file.tensors[name])[self._row_order(name)] for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def exact_blocks(self, name: str) -> Blocks | None:
        """Return the blocks of a Q8_0 tensor without requantizing; None for any other tensor type.

        A Q8_0 block (`block_q8_0` of llama.cpp's ggml-common.h) is a float16 scale and 32 int8 values, 34 bytes. The
        result holds uint8 values [rows, columns / 32, 32] with zero point 128 and float32 scales [rows, columns / 32].
        """
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
            raise self._refusal(
                f"is damaged: it declares {self.hyperparameters.layers} layers but holds {len(found)} tensors. "
                f"Download the file again."
            )
        expected = dict(_expected_shapes(self.hyperparameters))
        for name, shape in expected.items():
            if name not in found and name not in _OPTIONAL:
                raise self._refusal(f"has no tensor {name!r}. Download or convert the model again.")
            if name in found and found[name].shape != shape:
                raise self._refusal(
                    f"holds {name!r} with the shape {found[name].shape}; expected {shape}. Convert the model again."
                )
        for name, entry in found.items():
            if name not in expected:
                raise self._refusal(
                    f"holds the tensor {name!r}, which is not supported. Ignoring it would give wrong answers. "
                    f"Use a model without this tensor."
                )
            if entry.kind not in _TENSOR_TYPES:
                raise self._refusal(
                    f"holds {name!r} in the unsupported tensor type {entry.kind.name}. Use a GGUF file with one "
                    f"of: {', '.join(sorted(kind.name for kind in _TENSOR_TYPES))}."
                )

    def _dequantize(self, entry: TensorEntry) -> Float32:
        raw = self._file.read(entry)
        block, block_bytes = GGML_QUANT_SIZES[entry.kind]
        *rows, columns = entry.shape
        with np.errstate(all="ignore"):  # damaged scales overflow; the result is refused below
            values = dequantize(raw.reshape(*rows, columns // block * block_bytes), entry.kind)
        self._require_finite(values, entry.name)
        return np.asarray(values, np.float32)

    def _require_finite(self, values: Float32, name: str) -> None:
        if not np.isfinite(values).all():
            raise self._refusal(f"is damaged: {name!r} holds infinite or NaN values. Download the file again.")

    def _row_order(self, name: str) -> slice | NDArray[np.intp]:
        """Return the permutation of rows that undoes llama.cpp's interleaving of q and k.

        Rows [heads, head_size / 2, 2] become [heads, 2, head_size / 2], as in the original checkpoint.
        """
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
    if sizes.architecture.takes_rotary_factors:
        yield ROTARY_FACTORS, (sizes.head_size // 2,)
    for layer in range(sizes.layers):
        for name, shape in _layer_shapes(sizes, queries, keys):
            yield f"blk.{layer}.{name}", shape


def _layer_shapes(sizes: Hyperparameters, queries: int, keys: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "attn_norm.weight", (sizes.hidden,)
    yield "attn_q.weight", (queries, sizes.hidden)
    yield "attn_k.weight", (keys, sizes.hidden)
    yield "attn_v.weight", (keys, sizes.hidden)
    yield "attn_output.weight", (sizes.hidden, queries)
    yield "ffn_norm.weight", (sizes.hidden,)
    yield "ffn_gate.weight", (sizes.intermediate, sizes.hidden)
    yield "ffn_up.weight", (sizes.intermediate, sizes.hidden)
    yield "ffn_down.weight", (sizes.hidden, sizes.intermediate)
    if sizes.architecture.biases:
        yield "attn_q.bias", (queries,)
        yield "attn_k.bias", (keys,)
        yield "attn_v.bias", (keys,)
    if sizes.architecture.normalizes_heads:
        yield "attn_q_norm.weight", (sizes.head_size,)
        yield "attn_k_norm.weight", (sizes.head_size,)
    if sizes.architecture.normalizes_results:
        yield "post_attention_norm.weight", (sizes.hidden,)
        yield "post_ffw_norm.weight", (sizes.hidden,)
