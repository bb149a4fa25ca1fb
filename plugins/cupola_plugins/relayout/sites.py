"""Finds the matrix products of a graph, and dequantizes their weights to float32."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import external_data_helper, helper, numpy_helper

from cupola.errors import ModelFormatError
from cupola_plugins.gguf.quantization import Float32


class Tensors:
    """The initializers of a graph, read from its data file on request."""

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        self._folder = folder
        self.protos: Mapping[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self.protos

    def array(self, name: str) -> NDArray[Any]:
        """Return an initializer, with the shape and dtype that its graph declares.

        Raises:
            ModelFormatError: The data file is missing or too short.
        """
        proto = self.protos[name]
        if not external_data_helper.uses_external_data(proto):
            inline: NDArray[Any] = numpy_helper.to_array(proto)
            return inline
        place = {entry.key: entry.value for entry in proto.external_data}
        path = self._folder / Path(place["location"]).name
        kind = helper.tensor_dtype_to_np_dtype(proto.data_type)
        count = int(np.prod(proto.dims, dtype=np.int64))
        try:
            array = np.fromfile(path, kind, count, offset=int(place.get("offset", 0)))
        except OSError as error:
            raise ModelFormatError(path=str(path), detail=f"cannot be read: {error.strerror}") from error
        if array.size != count:
            raise ModelFormatError(path=str(path), detail="is shorter than declared. Download the model again")
        return array.reshape(tuple(proto.dims))


@dataclass(frozen=True, slots=True)
class Site(ABC):
    """A matrix product of a graph: `out = x @ matrix.T`, with x [..., columns] and the matrix [rows, columns].

    Attributes:
        name: The name of its weights, the same in all graphs that share a data file.
        x: The name of its input.
        out: The name of its output.
        nodes: The indices of the nodes that compute it; the last one produces `out`.
    """

    name: str
    x: str
    out: str
    rows: int
    columns: int
    nodes: frozenset[int]

    @abstractmethod
    def matrix(self, tensors: Tensors) -> Float32:
        """Return the dequantized weights, float32 [rows, columns]."""


@dataclass(frozen=True, slots=True)
class BlocksSite(Site):
    """A MatMulNBits node (onnxruntime docs/ContribOperators.md).

    Attributes:
        bits: 4 or 8 bits per weight.
        block: Weights per block.
        inputs: Names of x, values, scales and, if given, zero points. Values are uint8
            [rows, blocks, block * bits / 8], scales [rows * blocks], zero points uint8
            [rows, ceil(blocks * bits / 8)]; the default zero point is 2 ** (bits - 1).
    """

    bits: int
    block: int
    inputs: tuple[str, ...]

    def matrix(self, tensors: Tensors) -> Float32:
        """Return the dequantized weights, without the padding of the last blocks."""
        values = tensors.array(self.inputs[1]).reshape(self.rows, -1, self.block * self.bits // 8)
        blocks = values.shape[1]
        scales = tensors.array(self.inputs[2]).astype(np.float32).reshape(self.rows, blocks, 1)
        zero: NDArray[Any] | float = float(1 << (self.bits - 1))
        if len(self.inputs) > 3 and self.inputs[3]:
            packed = tensors.array(self.inputs[3]).reshape(self.rows, -1)
            zero = (_unpack(packed) if self.bits == 4 else packed)[:, :blocks, None].astype(np.float32)
        whole = _unpack(values) if self.bits == 4 else values
        matrix: Float32 = ((whole.astype(np.float32) - zero) * scales).reshape(self.rows, -1)[:, : self.columns]
        return matrix


@dataclass(frozen=True, slots=True)
class RowsSite(Site):
    """The integer GEMM of Cupola's importer; see `Int8RowsLinear`.

    Attributes:
        values: Name of the weights, int8 [columns, rows].
        scales: Name of the scales, float32 [rows].
    """

    values: str
    scales: str

    def matrix(self, tensors: Tensors) -> Float32:
        """Return the dequantized weights."""
        matrix: Float32 = tensors.array(self.values).T.astype(np.float32) * tensors.array(self.scales)[:, None]
        return matrix


def find_sites(model: onnx.ModelProto, tensors: Tensors) -> list[Site]:
    """Return all products whose weights can be dequantized, in the order of the graph."""
    return list(_Finder(model, tensors).sites())


class _Finder:
    def __init__(self, model: onnx.ModelProto, tensors: Tensors) -> None:
        self._nodes = list(model.graph.node)
        self._tensors = tensors
        self._makers = {name: index for index, node in enumerate(self._nodes) for name in node.output}

    def sites(self) -> Iterator[Site]:
        for index, node in enumerate(self._nodes):
            if node.op_type == "MatMulNBits":
                if site := self._blocks(index, node):
                    yield site
            elif node.op_type == "Mul" and (site := self._rows(index, node)):
                yield site

    def _blocks(self, index: int, node: onnx.NodeProto) -> Site | None:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        bits, block = attributes.get("bits", 4), attributes["block_size"]
        weights = [name for name in node.input[1:] if name]
        zero_point = node.input[3] if len(node.input) > 3 else ""
        is_integer = not zero_point or self._tensors.protos[zero_point].data_type == onnx.TensorProto.UINT8
        if bits not in (4, 8) or len(node.input) > 4 or not is_integer or any(n not in self._tensors for n in weights):
            return None
        return BlocksSite(
            name=node.input[1].removesuffix(".values"),
            x=node.input[0],
            out=node.output[0],
            rows=attributes["N"],
            columns=attributes["K"],
            nodes=frozenset({index}),
            bits=bits,
            block=block,
            inputs=tuple(node.input),
        )

    def _rows(self, index: int, node: onnx.NodeProto) -> Site | None:
        """Recognize the chain of nodes that `Int8RowsLinear` adds, by its last node."""
        product = self._maker(node.input[0], "MatMulIntegerToFloat")
        quantize = product and self._maker(product[1].input[0], "QuantizeLinear")
        divide = quantize and self._maker(quantize[1].input[0], "Div")
        largest = divide and self._maker(divide[1].input[1], "Max")
        reduce = largest and self._maker(largest[1].input[0], "ReduceMax")
        magnitude = reduce and self._maker(reduce[1].input[0], "Abs")
        if not (product and quantize and divide and largest and reduce and magnitude):
            return None
        values, scales = product[1].input[1], product[1].input[3]
        if values not in self._tensors or scales not in self._tensors:
            return None
        columns, rows = self._tensors.protos[values].dims
        return RowsSite(
            name=values.removesuffix(".values"),
            x=divide[1].input[0],
            out=node.output[0],
            rows=rows,
            columns=columns,
            nodes=frozenset({index, *(found[0] for found in (product, quantize, divide, largest, reduce, magnitude))}),
            values=values,
            scales=scales,
        )

    def _maker(self, name: str, operator: str) -> tuple[int, onnx.NodeProto] | None:
        index = self._makers.get(name)
        if index is None or self._nodes[index].op_type != operator:
            return None
        return index, self._nodes[index]


def _unpack(packed: NDArray[Any]) -> NDArray[Any]:
    """Return uint8 [..., 2 * n] for [..., n]: two 4-bit values from each byte, the low half first."""
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return both.reshape(*packed.shape[:-1], -1)
