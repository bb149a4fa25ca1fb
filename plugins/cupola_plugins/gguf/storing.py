"""Quantises a checkpoint into the weights file, one matrix at a time."""

from collections.abc import Callable

import numpy as np

from cupola_plugins.gguf import linear
from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.checkpoint import EMBEDDING, FINAL_NORM, Checkpoint
from cupola_plugins.gguf.layout import Layout
from cupola_plugins.gguf.matrices import (
    EMBEDDING_WEIGHTS,
    FINAL_NORM_WEIGHTS,
    LOCAL_ROTARY_COS,
    LOCAL_ROTARY_SIN,
    ROTARY_COS,
    ROTARY_SIN,
    head_matrix,
    layer_matrices,
    layer_vectors,
)
from cupola_plugins.gguf.quantize import EMBEDDING_BLOCK, Float32, int8_blocks
from cupola_plugins.gguf.weights import WeightsFile


def store_weights(checkpoint: Checkpoint, weights: WeightsFile, layout: Layout, layer_done: Callable[[], None]) -> None:
    """Write all weights of a decoder.

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
    """Return how large the weights file becomes, within a percent."""
    embedding = sizes.vocabulary * sizes.hidden + 4 * sizes.vocabulary * sizes.hidden // EMBEDDING_BLOCK
    body = sum(linear.BODY[layout].stored_bytes(matrix) for matrix in layer_matrices(sizes, 0))
    vectors = 4 * (sizes.hidden + sizes.layers * sum(vector.size for vector in layer_vectors(sizes, 0)))
    rotary = 4 * sizes.context * sizes.head_size * (2 if sizes.local_rope_base else 1)
    shared = _shares_embedding(layout, own_head=own_head)
    head = 0 if shared else linear.HEAD[layout].stored_bytes(head_matrix(sizes, own=own_head))
    return embedding + sizes.layers * body + vectors + rotary + head


def _store_embedding(checkpoint: Checkpoint, weights: WeightsFile) -> None:
    """Write the embedding in 8 bits: unchanged where the file holds it so."""
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
    """Write cosines and sines, each [context, head_size / 2]; those of layers with a window may differ."""
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
