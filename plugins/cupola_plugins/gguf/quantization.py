"""Quantization of weight matrices in numpy. Every function takes float32 [rows, columns].

Blocks and packing are those of MatMulNBits and GatherBlockQuantized (onnxruntime docs/ContribOperators.md). The
functions process a few rows at a time: temporary arrays stay in the CPU cache, which is several times faster than
passes over a whole matrix, and memory use does not grow with the matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

EMBEDDING_BLOCK = 32
ZERO_POINT_8 = 128

_CHUNK_VALUES = 1 << 16
_ROW_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)
_BLOCK_CLIPS = (0.84, 0.9, 0.95, 1.0, 1.05)
_SMALLEST = np.float32(1e-9)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of int8 weights; the matrix is `values * scales[:, None]`.

    Attributes:
        values: int8 [rows, columns], in -127..127.
        scales: float32 [rows].
    """

    values: NDArray[np.int8]
    scales: Float32


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks along each row; the matrix is `(values - zero_points) * scales`, padded to whole blocks with zeros.

    Attributes:
        values: uint8 [rows, blocks, block] for 8 bits; [rows, blocks, block / 2] for 4 bits, two values per byte, the
            first in the low half.
        scales: float32 [rows, blocks].
        zero_points: uint8 [rows, ceil(blocks / 2)] for 4 bits, packed like the values; None for 8 bits, whose zero
            point is `ZERO_POINT_8`.
    """

    values: UInt8
    scales: Float32
    zero_points: UInt8 | None = None


def int8_rows(matrix: Float32) -> Rows:
    """Quantize to 8 bits with a scale per row: of a few clipping points, the one with the least squared error."""
    values, scales = np.empty(matrix.shape, np.int8), np.empty(len(matrix), np.float32)
    for part in _chunks(matrix):
        rows = matrix[part]
        scales[part] = _best_row_scales(rows)
        values[part] = np.clip(np.round(rows / scales[part, None]), -127, 127)
    return Rows(values, scales)


def int8_blocks(matrix: Float32, block: int) -> Blocks:
    """Quantize to 8 bits with a scale per block and the zero point 128. Lossless for dequantized Q8_0 blocks."""
    padded = _pad(matrix, block)
    values, scales = np.empty(padded.shape, np.uint8), np.empty(padded.shape[:2], np.float32)
    for part in _chunks(padded):
        scales[part] = np.maximum(np.abs(padded[part]).max(axis=2), _SMALLEST) / 127
        values[part] = np.round(padded[part] / scales[part][..., None]) + ZERO_POINT_8
    return Blocks(values, scales)


def int4_blocks(matrix: Float32, block: int) -> Blocks:
    """Quantize to 4 bits with a scale and a zero point per block: of a few, the pair with the least squared error."""
    padded = _pad(matrix, block)
    rows, blocks, _ = padded.shape
    values, scales = np.empty(padded.shape, np.uint8), np.empty((rows, blocks), np.float32)
    zero_points = np.empty((rows, blocks), np.uint8)
    for part in _chunks(padded):
        values[part], scales[part], zero_points[part] = _best_int4(padded[part])
    if blocks % 2:
        zero_points = np.pad(zero_points, ((0, 0), (0, 1)))
    return Blocks(_pack(values), scales, _pack(zero_points))


def _best_row_scales(rows: Float32) -> Float32:
    largest = np.maximum(np.abs(rows).max(axis=1), _SMALLEST)
    best_scale: Float32 = largest / 127
    best_error = np.full(len(rows), np.inf, np.float32)
    for clip in _ROW_CLIPS:
        scale = largest * np.float32(clip) / 127
        rounded = rows / scale[:, None]
        np.round(rounded, out=rounded)
        np.clip(rounded, -127, 127, out=rounded)
        rounded *= scale[:, None]
        rounded -= rows
        error = np.square(rounded, out=rounded).sum(axis=1)
        better = error < best_error
        best_error[better], best_scale[better] = error[better], scale[better]
    return best_scale


def _best_int4(blocks: Float32) -> tuple[UInt8, Float32, UInt8]:
    """Search ranges near that of the block, with and without zero. Each gets the least-squares scale.

    Args:
        blocks: float32 [rows, blocks, block].

    Returns:
        Values uint8 [rows, blocks, block], one per byte; scales float32 and zero points uint8, each [rows, blocks].
    """
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    ranges = (np.maximum(high, 0) - np.minimum(low, 0), high - low)
    best_error = np.full(low.shape, np.inf, np.float32)
    values, scales, zero_points = np.zeros(blocks.shape, np.uint8), np.zeros_like(low), np.zeros(low.shape, np.uint8)
    for width in ranges:
        for clip in _BLOCK_CLIPS:
            scale = np.maximum(width, _SMALLEST) * np.float32(clip / 15)
            zero_point = np.clip(np.round(-low / scale), 0, 15)
            steps = np.clip(np.round(blocks / scale[..., None]), -zero_point[..., None], 15 - zero_point[..., None])
            weight = np.maximum(np.einsum("rbv,rbv->rb", steps, steps), _SMALLEST)
            scale = np.einsum("rbv,rbv->rb", steps, blocks) / weight
            error = np.square(steps * scale[..., None] - blocks).sum(axis=2)
            better = error < best_error
            best_error[better], scales[better] = error[better], scale[better]
            zero_points[better] = zero_point[better]
            values[better] = (steps + zero_point[..., None])[better]
    return values, scales, zero_points


def _pack(values: UInt8) -> UInt8:
    return values[..., 0::2] | (values[..., 1::2] << np.uint8(4))


def _pad(matrix: Float32, block: int) -> Float32:
    """Reshape to [rows, blocks, block], with zeros at the end of each row where needed."""
    missing = -matrix.shape[1] % block
    padded = np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix
    return padded.reshape(len(matrix), -1, block)


def _chunks(matrix: Float32) -> Iterator[slice]:
    step = max(1, _CHUNK_VALUES // (matrix.size // len(matrix)))
    for start in range(0, len(matrix), step):
        yield slice(start, start + step)
