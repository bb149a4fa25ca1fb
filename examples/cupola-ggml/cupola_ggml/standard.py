"""A decoder's graph in ONNX's own operators, for providers that know no others.

Exports for ONNX Runtime hold operators of its own: quantised products, fused norms, attention with a KV cache in it.
Each is written out here. The cosines and sines of the rotary positions and the causal mask become inputs, so that
every shape follows from the inputs. One row, any length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cupola.errors import LoadError
from cupola.provider import ModelFiles
from cupola_providers.runtime.config import GenaiConfig

Floats = NDArray[np.float32]
_MASK, _COS, _SIN = "mask", "rotary.cos", "rotary.sin"
_LENGTHS = {"Shape", "Gather", "Cast", "ReduceSum", "Sub"}  # from which the attention took its mask
_ROUNDING = {"Abs", "ReduceMax", "Max", "Div", "QuantizeLinear", "MatMulIntegerToFloat"}  # see `_scaling`


@dataclass(frozen=True, slots=True)
class StandardGraph:
    """The graph, and what its inputs are made from.

    Attributes:
        content: The graph without its weights.
        weights: These, by name.
        cos, sin: [positions, head_size].
        group: Query heads per key head.
        cache: Shape of every past at its beginning, by name, in the order of the presents.
    """

    content: bytes
    weights: Mapping[str, Any]
    cos: Floats
    sin: Floats
    group: int
    cache: Mapping[str, tuple[int, ...]]

    def empty_cache(self) -> dict[str, Floats]:
        """Return pasts of no token."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.cache.items()}

    def open(self, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open it in ONNX Runtime, with the weights from memory."""
        names, values = list(self.weights), [ort.OrtValue.ortvalue_from_numpy(w) for w in self.weights.values()]
        options.add_external_initializers(names, values)
        return ort.InferenceSession(self.content, options, enable_fallback=0)


def standard_graph(model: ModelFiles, config: GenaiConfig) -> StandardGraph:
    """Read a model's graph and write it in standard operators.

    Raises:
        LoadError: It holds an operator that is not known here.
    """
    source = onnx.load(model.path / config.model.decoder.filename, load_external_data=False)
    writer = _Writer(source.graph, model.path)
    for node in source.graph.node:
        write = _WRITERS.get(node.op_type)
        if write:
            write(writer, node, {one.name: helper.get_attribute_value(one) for one in node.attribute})
        elif node.op_type not in _LENGTHS | _ROUNDING:
            detail = f"its graph holds {node.op_type}, which cannot be rewritten for ggml. Choose another model"
            raise LoadError(model=model.id, detail=detail)
    return writer.finished(source.graph)


@dataclass(slots=True)
class _Writer:
    """The graph that is being written."""

    source: Any
    folder: Path
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    attention: tuple[int, int, int] = (1, 1, 1)  # heads, key heads, head size

    def tensor(self, name: str) -> NDArray[Any]:
        """Return a constant of the source."""
        tensor = next(one for one in self.source.initializer if one.name == name)
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        place = {entry.key: entry.value for entry in tensor.external_data}
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        path, offset = self.folder / place["location"], int(place.get("offset", 0))
        return np.memmap(path, kind, "r", offset, tuple(tensor.dims))

    def made_by(self, name: str) -> Any:
        """Return the node of the source that makes a value; None if it is an input or a constant."""
        return next((node for node in self.source.node if name in node.output), None)

    def add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add a node; returns its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Add a weight, once."""
        self.weights.setdefault(name, np.ascontiguousarray(values, np.float32))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a small constant that stays in the graph, once."""
        self.constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def finished(self, source: Any) -> StandardGraph:
        """Put the graph together."""
        heads, key_heads, size = self.attention
        rotary = [np.concatenate([half, half], -1) for half in (self.tensor(_COS), self.tensor(_SIN))]
        inputs = [one for one in source.input if one.name != "attention_mask"]
        shapes = {_COS: [1, 1, "tokens", size], _SIN: [1, 1, "tokens", size], _MASK: [1, 1, "rows", "total"]}
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        references = [_reference(name, values) for name, values in self.weights.items()]
        graph = helper.make_graph(
            self.nodes, "standard", inputs, list(source.output), [*self.constants.values(), *references]
        )
        opset = [helper.make_opsetid("", 18)]
        content = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
        pasts = [one.name for one in source.input if one.name not in ("input_ids", "attention_mask")]
        cache = dict.fromkeys(pasts, (1, key_heads, 0, size))
        return StandardGraph(content, self.weights, *rotary, heads // key_heads, cache)


def _reference(name: str, values: Floats) -> Any:
    """Name a weight that is given when the graph is opened."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="given in memory")
    return tensor


def _blocks(writer: _Writer, values: str, scales: str, zero_points: str, bits: int) -> Floats:
    """Return a matrix that is stored in blocks, [rows, columns]."""
    stored, scale = writer.tensor(values), writer.tensor(scales)
    scale = scale.reshape(stored.shape[0], -1, 1)
    rows, blocks, _ = scale.shape
    numbers = _unpacked(stored, bits).reshape(rows, blocks, -1).astype(np.float32)
    middle: Any = 1 << (bits - 1)
    if zero_points:
        middle = _unpacked(writer.tensor(zero_points), bits).reshape(rows, -1)[:, :blocks, None]
    return ((numbers - middle) * scale).reshape(rows, -1)


def _unpacked(stored: NDArray[Any], bits: int) -> NDArray[Any]:
    return np.stack([stored & 15, stored >> 4], -1) if bits == 4 else stored


def _embedding(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    zero_points = node.input[3] if len(node.input) > 3 else ""
    matrix = _blocks(writer, node.input[0], node.input[2], zero_points, attributes["bits"])
    writer.add("Gather", [writer.weight(node.input[0], matrix), node.input[1]], [node.output[0]], axis=0)


def _product(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    zero_points = node.input[3] if len(node.input) > 3 else ""
    matrix = _blocks(writer, node.input[1], node.input[2], zero_points, attributes["bits"])[:, : attributes["K"]]
    weight = writer.weight(f"{node.input[1]}.transposed", matrix.T)
    writer.add("MatMul", [node.input[0], weight], [node.output[0]])


def _scaling(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    """Write a product of two values; or of a matrix in 8 bits by rows, whose last node is one, without its rounding."""
    product = writer.made_by(node.input[0])
    if product is None or product.op_type != "MatMulIntegerToFloat":
        _as_it_is(writer, node, attributes)
        return
    rounded, values, _, scales = product.input[:4]
    value = writer.made_by(writer.made_by(rounded).input[0]).input[0]
    weight = writer.weight(f"{values}.scaled", writer.tensor(values) * writer.tensor(scales))
    writer.add("MatMul", [value, weight], [node.output[0]])


def _norm(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    _write_norm(writer, node.input[0], node.input[1], node.output[0], attributes["epsilon"])


def _sum_and_norm(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    total = node.output[3] if len(node.output) > 3 and node.output[3] else f"{node.output[0]}.sum"
    writer.add("Add", [node.input[0], node.input[1]], [total])
    _write_norm(writer, total, node.input[2], node.output[0], attributes["epsilon"])


def _write_norm(writer: _Writer, value: str, gain: str, out: str, epsilon: float) -> None:
    smallest = writer.constant(f"epsilon.{epsilon:g}", np.array([epsilon], np.float32))
    axis = writer.constant("axis.last", np.array([-1], np.int64))
    square = writer.add("Mul", [value, value], [f"{out}.square"])
    mean = writer.add("ReduceMean", [square, axis], [f"{out}.mean"], keepdims=1)
    root = writer.add("Sqrt", [writer.add("Add", [mean, smallest], [f"{out}.lifted"])], [f"{out}.root"])
    scaled = writer.add("Div", [value, root], [f"{out}.scaled"])
    writer.add("Mul", [scaled, writer.weight(gain, writer.tensor(gain))], [out])


def _gate(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG001 - alpha is 1 in SiLU
    sigmoid = writer.add("Sigmoid", [node.input[0]], [f"{node.output[0]}.sigmoid"])
    writer.add("Mul", [node.input[0], sigmoid], [node.output[0]])


def _as_it_is(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    writer.add(node.op_type, list(node.input), list(node.output), **attributes)


def _attention(writer: _Writer, node: Any, attributes: dict[str, Any]) -> None:
    past = next(one for one in writer.source.input if one.name == node.input[3])
    size = past.type.tensor_type.shape.dim[3].dim_value
    heads, keys = attributes["num_heads"], attributes["kv_num_heads"]
    writer.attention = (heads, keys, size)
    out = node.output[0]
    parts = [f"{out}.{name}" for name in "qkv"]
    writer.add("Split", [node.input[0], _sizes(writer, heads * size, keys * size, keys * size)], parts, axis=-1)
    q, k, v = (_by_head(writer, part, count, size) for part, count in zip(parts, (heads, keys, keys), strict=True))
    key = writer.add("Concat", [node.input[3], _rotated(writer, k, size)], [node.output[1]], axis=2)
    value = writer.add("Concat", [node.input[4], v], [node.output[2]], axis=2)
    grouped = _reshaped(writer, _rotated(writer, q, size), 1, keys, -1, size)
    turned = writer.add("Transpose", [key], [f"{out}.keys"], perm=[0, 1, 3, 2])
    scale = writer.constant("scale", np.array([attributes.get("scale") or size**-0.5], np.float32))
    scores = writer.add("Mul", [writer.add("MatMul", [grouped, turned], [f"{out}.products"]), scale], [f"{out}.scores"])
    masked = writer.add("Add", [scores, _MASK], [f"{out}.masked"])
    shares = writer.add("Softmax", [masked], [f"{out}.shares"], axis=-1)
    mixed = _reshaped(writer, writer.add("MatMul", [shares, value], [f"{out}.mixed"]), 1, heads, -1, size)
    back = writer.add("Transpose", [mixed], [f"{out}.back"], perm=[0, 2, 1, 3])
    writer.add("Reshape", [back, _sizes(writer, 1, -1, heads * size)], [out])


def _by_head(writer: _Writer, value: str, heads: int, size: int) -> str:
    return writer.add(
        "Transpose", [_reshaped(writer, value, 1, -1, heads, size)], [f"{value}.heads"], perm=[0, 2, 1, 3]
    )


def _rotated(writer: _Writer, value: str, size: int) -> str:
    first, second = f"{value}.first", f"{value}.second"
    writer.add("Split", [value, _sizes(writer, size // 2, size // 2)], [first, second], axis=-1)
    swapped = writer.add(
        "Concat", [writer.add("Neg", [second], [f"{value}.minus"]), first], [f"{value}.swapped"], axis=-1
    )
    straight = writer.add("Mul", [value, _COS], [f"{value}.straight"])
    across = writer.add("Mul", [swapped, _SIN], [f"{value}.across"])
    return writer.add("Add", [straight, across], [f"{value}.rotated"])


def _reshaped(writer: _Writer, value: str, *shape: int) -> str:
    return writer.add("Reshape", [value, _sizes(writer, *shape)], [f"{value}.reshaped"])


def _sizes(writer: _Writer, *sizes: int) -> str:
    return writer.constant("sizes." + "x".join(map(str, sizes)), np.array(sizes, np.int64))


_WRITERS: dict[str, Callable[[_Writer, Any, dict[str, Any]], None]] = {
    "GatherBlockQuantized": _embedding,
    "MatMulNBits": _product,
    "SimplifiedLayerNormalization": _norm,
    "SkipSimplifiedLayerNormalization": _sum_and_norm,
    "QuickGelu": _gate,
    "GroupQueryAttention": _attention,
    "Split": _as_it_is,
    "Mul": _scaling,
}
