"""The weights of the graph: their names and sizes, and how they are quantized from a checkpoint."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from cupola_plugins.gguf import linear
from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.checkpoint import EMBEDDING, FINAL_NORM, HEAD, Checkpoint
from cupola_plugins.gguf.files import Layout
from cupola_plugins.gguf.linear import Matrix
from cupola_plugins.gguf.onnx_model import WeightsFile
from cupola_plugins.gguf.quantization import EMBEDDING_BLOCK, Float32, int8_blocks

EMBEDDING_WEIGHTS = "embedding"
FINAL_NORM_WEIGHTS = "final_norm"
ROTARY_COS, ROTARY_SIN = "rotary.cos", "rotary.sin"
LOCAL_ROTARY_COS, LOCAL_ROTARY_SIN = "rotary.local.cos", "rotary.local.sin"


def store_weights(checkpoint: Checkpoint, weights: WeightsFile, layout: Layout, layer_done: Callable[[], None]) -> None:
    """Quantize and write all weights of a decoder, one matrix at a time.

    Raises:
        ModelFormatError: The checkpoint is damaged.
        OSError: The weights cannot be written.
    """
    sizes = checkpoint.hyperparameters
    _store_embedding(checkpoint, weights)
    _store_rotary_tables(checkpoint, weights)
    for layer in range(sizes.layers):
        for vector in layer_vectors(sizes, layer):
            weights.add(vector.name, checkpoint.vector(*vector.sources))
        for matrix in layer_matrices(sizes, layer):
            linear.BODY[layout].store(weights, matrix.name, checkpoint.matrix(*matrix.sources))
        layer_done()
    weights.add(FINAL_NORM_WEIGHTS, checkpoint.vector(FINAL_NORM))
    _store_head(checkpoint, weights, layout)


def stored_bytes(sizes: Hyperparameters, layout: Layout, *, own_head: bool) -> int:
    """Return the size of the weights file in bytes, within one percent."""
    embedding = sizes.vocabulary * sizes.hidden + 4 * sizes.vocabulary * sizes.hidden // EMBEDDING_BLOCK
    body = sum(linear.BODY[layout].stored_bytes(matrix) for matrix in layer_matrices(sizes, 0))
    vectors = 4 * (sizes.hidden + sizes.layers * sum(vector.size for vector in layer_vectors(sizes, 0)))
    rotary = 4 * sizes.context * sizes.head_size * (2 if sizes.local_rope_base else 1)
    shared = _shares_embedding(layout, own_head=own_head)
    head = 0 if shared else linear.HEAD[layout].stored_bytes(head_matrix(sizes, own=own_head))
    return embedding + sizes.layers * body + vectors + rotary + head


class Layer(NamedTuple):
    """The matrices of one layer. Matrices with the same input are stacked, for fewer and larger products."""

    qkv: Matrix
    attention_output: Matrix
    gate_up: Matrix
    down: Matrix


def layer_matrices(sizes: Hyperparameters, layer: int) -> Layer:
    """Return the matrices of a layer."""
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size

    def matrix(name: str, rows: int, columns: int, *sources: str) -> Matrix:
        tensors = tuple(f"blk.{layer}.{source}.weight" for source in sources)
        return Matrix(f"layer.{layer}.{name}", tensors, rows, columns)

    return Layer(
        qkv=matrix("qkv", queries + 2 * keys, sizes.hidden, "attn_q", "attn_k", "attn_v"),
        attention_output=matrix("attention_output", sizes.hidden, queries, "attn_output"),
        gate_up=matrix("gate_up", 2 * sizes.intermediate, sizes.hidden, "ffn_gate", "ffn_up"),
        down=matrix("down", sizes.hidden, sizes.intermediate, "ffn_down"),
    )


def head_matrix(sizes: Hyperparameters, *, own: bool) -> Matrix:
    """Return the output matrix [vocabulary, hidden]; without its own tensor it is the embedding."""
    return Matrix("head", (HEAD if own else EMBEDDING,), sizes.vocabulary, sizes.hidden)


def attention_norm(layer: int) -> str:
    """Return the name of the norm before a layer's attention."""
    return f"layer.{layer}.attention_norm"


def mlp_norm(layer: int) -> str:
    """Return the name of the norm before a layer's MLP."""
    return f"layer.{layer}.mlp_norm"


class Vector(NamedTuple):
    """A float32 vector [size] of the graph, concatenated from tensors of the checkpoint."""

    name: str
    sources: tuple[str, ...]
    size: int


def layer_vectors(sizes: Hyperparameters, layer: int) -> Iterator[Vector]:
    """Iterate over the norms and biases of a layer."""
    architecture, block = sizes.architecture, f"blk.{layer}."
    yield Vector(attention_norm(layer), (block + "attn_norm.weight",), sizes.hidden)
    yield Vector(mlp_norm(layer), (block + "ffn_norm.weight",), sizes.hidden)
    if architecture.biases:
        biases = tuple(f"{block}attn_{part}.bias" for part in "qkv")
        yield Vector(qkv_bias(layer), biases, (sizes.heads + 2 * sizes.kv_heads) * sizes.head_size)
    if architecture.normalizes_heads:
        yield Vector(head_norm(layer, "q"), (block + "attn_q_norm.weight",), sizes.head_size)
        yield Vector(head_norm(layer, "k"), (block + "attn_k_norm.weight",), sizes.head_size)
    if architecture.normalizes_results:
        yield Vector(attention_result_norm(layer), (block + "post_attention_norm.weight",), sizes.hidden)
        yield Vector(mlp_result_norm(layer), (block + "post_ffw_norm.weight",), sizes.hidden)


def qkv_bias(layer: int) -> str:
    """Return the name of the bias of queries, keys and values."""
    return f"layer.{layer}.qkv.bias"


def head_norm(layer: int, part: Literal["q", "k"]) -> str:
    """Return the name of the norm of each head of queries or keys."""
    return f"layer.{layer}.{part}_norm"


def attention_result_norm(layer: int) -> str:
    """Name the norm behind a layer's attention."""
    return f"layer.{layer}.attention_result_norm"


def mlp_result_norm(layer: int) -> str:
    """Name the norm behind a layer's MLP."""
    return f"layer.{layer}.mlp_result_norm"


def _store_embedding(checkpoint: Checkpoint, weights: WeightsFile) -> None:
    """Write the embedding: uint8 [vocabulary, hidden] and float32 scales [vocabulary, hidden / 32]."""
    blocks = checkpoint.exact_blocks(EMBEDDING) or int8_blocks(checkpoint.matrix(EMBEDDING), EMBEDDING_BLOCK)
    weights.add(f"{EMBEDDING_WEIGHTS}.values", blocks.values.reshape(len(blocks.values), -1))
    weights.add(f"{EMBEDDING_WEIGHTS}.scales", blocks.scales)


def _shares_embedding(layout: Layout, *, own_head: bool) -> bool:
    return layout is not Layout.INT8_ROWS and not own_head


def _store_head(checkpoint: Checkpoint, weights: WeightsFile, layout: Layout) -> None:
    sizes = checkpoint.hyperparameters
    matrix = head_matrix(sizes, own=checkpoint.has_own_head)
    if _shares_embedding(layout, own_head=checkpoint.has_own_head):
        blocks = (sizes.vocabulary, sizes.hidden // EMBEDDING_BLOCK)
        weights.alias(f"{matrix.name}.values", f"{EMBEDDING_WEIGHTS}.values", (*blocks, EMBEDDING_BLOCK))
        weights.alias(f"{matrix.name}.scales", f"{EMBEDDING_WEIGHTS}.scales", blocks)
    else:
        linear.HEAD[layout].store(weights, matrix.name, checkpoint.matrix(*matrix.sources))


def _store_rotary_tables(checkpoint: Checkpoint, weights: WeightsFile) -> None:
    """Write cosines and sines, each float32 [context, head_size / 2]; sliding-window layers may have their own."""
    sizes = checkpoint.hyperparameters
    cos, sin = _rotary_tables(sizes, sizes.rope_base, sizes.position_factor, checkpoint.rotary_factors)
    weights.add(ROTARY_COS, cos)
    weights.add(ROTARY_SIN, sin)
    if sizes.local_rope_base:
        cos, sin = _rotary_tables(sizes, sizes.local_rope_base)
        weights.add(LOCAL_ROTARY_COS, cos)
        weights.add(LOCAL_ROTARY_SIN, sin)


def _rotary_tables(
    sizes: Hyperparameters, base: float, position_factor: float = 1.0, factors: Float32 | None = None
) -> tuple[Float32, Float32]:
    frequencies = base ** -(np.arange(0, sizes.head_size, 2) / sizes.head_size)
    if factors is not None:
        frequencies = frequencies / factors
    angles = np.outer(np.arange(sizes.context) / position_factor, frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
