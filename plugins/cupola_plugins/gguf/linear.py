"""Matrix products: for each layout, how a matrix is stored and which nodes multiply with it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from cupola_plugins.gguf.files import Layout
from cupola_plugins.gguf.onnx_model import CONTRIB, Nodes, WeightsFile
from cupola_plugins.gguf.quantization import EMBEDDING_BLOCK, Blocks, Float32, int4_blocks, int8_blocks, int8_rows

_INT8_ACTIVATIONS = 4  # accuracy_level of MatMulNBits: int8 activations; other levels are much slower


class Matrix(NamedTuple):
    """A matrix [rows, columns] of the graph, stacked from tensors of the checkpoint."""

    name: str
    sources: tuple[str, ...]
    rows: int
    columns: int


class Linear(ABC):
    """A storage format of a matrix [rows, columns], and the nodes that compute `x @ matrix.T`."""

    @abstractmethod
    def store(self, weights: WeightsFile, name: str, matrix: Float32) -> None:
        """Quantize a float32 matrix [rows, columns] and write its tensors with the prefix `name`."""

    @abstractmethod
    def multiply(self, nodes: Nodes, x: str, matrix: Matrix, out: str) -> str:
        """Add the nodes that multiply x, float32 [..., columns], with the stored matrix. Return `out`, [..., rows]."""

    @abstractmethod
    def stored_bytes(self, matrix: Matrix) -> int:
        """Return the number of bytes that `store` writes, without alignment."""


class Int8RowsLinear(Linear):
    """int8 weights with a float32 scale per row, times uint8 activations with a scale per token.

    `<name>.values` is int8 [columns, rows], `<name>.scales` float32 [rows].

    The activations are divided by their largest magnitude first, so that the GEMM sees constants as scale and zero
    point. Each token has its own scale, so the rest of the batch cannot change its result, as it would with
    DynamicQuantizeMatMul, which computes one scale for the whole tensor (onnxruntime docs/ContribOperators.md).
    """

    def store(self, weights: WeightsFile, name: str, matrix: Float32) -> None:
        """Write the values transposed, as MatMulIntegerToFloat reads them, and the scales."""
        rows = int8_rows(matrix)
        weights.add(f"{name}.values", rows.values.T)
        weights.add(f"{name}.scales", rows.scales)

    def multiply(self, nodes: Nodes, x: str, matrix: Matrix, out: str) -> str:
        """Scale, quantize, multiply, and scale the product."""
        name = matrix.name
        scale = nodes.constant("activation.scale", np.float32(1 / 127))
        zero_point = nodes.constant("activation.zero_point", np.uint8(128))
        last_axis = nodes.constant("last_axis", np.array([-1], np.int64))
        smallest = nodes.constant("activation.smallest", np.float32(1e-10))
        magnitude = nodes.add("Abs", [x], f"{name}.magnitude")
        largest = nodes.add("ReduceMax", [magnitude, last_axis], f"{name}.largest", keepdims=1)
        largest = nodes.add("Max", [largest, smallest], f"{name}.range")
        scaled = nodes.add("Div", [x, largest], f"{name}.scaled")
        quantized = nodes.add("QuantizeLinear", [scaled, scale, zero_point], f"{name}.quantized")
        inputs = [quantized, f"{name}.values", scale, f"{name}.scales", zero_point]
        product = nodes.add("MatMulIntegerToFloat", inputs, f"{name}.product", domain=CONTRIB)
        return nodes.add("Mul", [product, largest], out)

    def stored_bytes(self, matrix: Matrix) -> int:
        """Return one byte per weight and four per row for the scales."""
        return matrix.rows * (matrix.columns + 4)


class BlocksLinear(Linear):
    """Weights in blocks along each row, multiplied by MatMulNBits (onnxruntime docs/ContribOperators.md).

    The tensors are `<name>.values`, `.scales` and, for 4 bits, `.zero_points`, as `Blocks` describes them.

    Args:
        bits: 4 or 8 bits per weight.
        block: Weights per block, a power of two from 16.
    """

    def __init__(self, bits: int, block: int) -> None:
        self._bits = bits
        self._block = block

    def store(self, weights: WeightsFile, name: str, matrix: Float32) -> None:
        """Quantize to blocks and write them."""
        quantize = int4_blocks if self._bits == 4 else int8_blocks
        store_blocks(weights, name, quantize(matrix, self._block))

    def multiply(self, nodes: Nodes, x: str, matrix: Matrix, out: str) -> str:
        """Add one MatMulNBits node."""
        name = matrix.name
        inputs = [x, f"{name}.values", f"{name}.scales"]
        if self._bits == 4:
            inputs.append(f"{name}.zero_points")
        return nodes.add(
            "MatMulNBits",
            inputs,
            out,
            domain=CONTRIB,
            K=matrix.columns,
            N=matrix.rows,
            bits=self._bits,
            block_size=self._block,
            accuracy_level=_INT8_ACTIVATIONS,
        )

    def stored_bytes(self, matrix: Matrix) -> int:
        """Return the packed weights, the scales and, for 4 bits, half a byte of zero point per block."""
        blocks = -(-matrix.columns // self._block)
        zero_points = -(-blocks // 2) if self._bits == 4 else 0
        return matrix.rows * (blocks * (self._block * self._bits // 8 + 4) + zero_points)


def store_blocks(weights: WeightsFile, name: str, blocks: Blocks) -> None:
    """Write the tensors that `BlocksLinear.multiply` reads."""
    weights.add(f"{name}.values", blocks.values)
    weights.add(f"{name}.scales", blocks.scales)
    if blocks.zero_points is not None:
        weights.add(f"{name}.zero_points", blocks.zero_points)


BODY: dict[Layout, Linear] = {
    Layout.INT8_ROWS: Int8RowsLinear(),
    Layout.INT8_BLOCKS: BlocksLinear(8, EMBEDDING_BLOCK),
    Layout.INT4_BLOCKS: BlocksLinear(4, 32),
    Layout.INT4_BLOCKS_64: BlocksLinear(4, 64),
}
"""The format of the matrices in the layers."""


HEAD: dict[Layout, Linear] = {
    layout: BODY[layout] if layout is Layout.INT8_ROWS else BlocksLinear(8, EMBEDDING_BLOCK) for layout in Layout
}
"""The format of the output matrix: always 8 bits; in blocks like the embedding, so that both can share the data."""
