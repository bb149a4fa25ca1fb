"""The end of a graph that computes every position for itself, and so can be computed for chosen positions alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import numpy_helper

_ELEMENTWISE = frozenset(
    (
        "Abs",
        "Add",
        "BiasGelu",
        "Cast",
        "Clip",
        "DequantizeLinear",
        "Div",
        "FastGelu",
        "Gelu",
        "Identity",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Pow",
        "QuantizeLinear",
        "QuickGelu",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Swish",
        "Tanh",
    )
)
_NORMS = frozenset(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"))
_NORMS_OF_SUMS = frozenset(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"))
_ALONG_AN_AXIS = frozenset(("Concat", "LogSoftmax", "Softmax", "Split"))
_REDUCTIONS = frozenset(("ReduceMax", "ReduceMean", "ReduceSum"))
_PRODUCTS = frozenset(("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"))
_SOURCES = frozenset(("Gather", "GatherBlockQuantized", "GroupQueryAttention"))
"""Operators whose first output is [batch, sequence, width] in a decoder, though they are not row by row themselves."""

_LAST_AXES = (-1, 2)


@dataclass(frozen=True, slots=True)
class RowWiseTail:
    """The end of a graph.

    Attributes:
        nodes: Indices of its nodes.
        inputs: Tensors [batch, sequence, width] that flow into it, all of them computed from the graph's inputs.
    """

    nodes: frozenset[int]
    inputs: tuple[str, ...]


def row_wise_tail(graph: Any, logits: str) -> RowWiseTail | str:
    """Find the longest tail before the logits; returns why there is none if so.

    A node belongs to it if it works on each position alone and everything that uses its results belongs to it too.
    What is not known to work like that is taken to mix positions.
    """
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in graph.node for attribute in node.attribute):
        return "its graph has branches or loops"
    moving = _moving_tensors(graph)
    constants = {one.name: one for one in graph.initializer}
    used_outside = {one.name for one in graph.output} - {logits}
    tail: list[int] = []
    inputs: dict[str, None] = {}
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        results = {name for name in node.output if name}
        is_needed = logits in results or bool(results & inputs.keys())
        if is_needed and not results & used_outside and _is_row_wise(node, moving, constants):
            tail.append(index)
            inputs = {name: None for name in inputs if name not in results}
            inputs.update((name, None) for name in node.input if name in moving)
        else:
            used_outside.update(node.input)
    if not tail:
        last = next((node for node in graph.node if logits in node.output), None)
        return f"its logits come from {last.op_type if last else 'nowhere'}, which may mix positions"
    return _checked(graph, tail, inputs)


def _checked(graph: Any, tail: Sequence[int], inputs: Mapping[str, None]) -> RowWiseTail | str:
    """Refuse a tail into which something flows that may not be [batch, sequence, width]."""
    makers = {node.output[0]: node for node in graph.node if node.output}
    makers |= {node.output[3]: node for node in graph.node if node.op_type in _NORMS_OF_SUMS and len(node.output) > 3}
    known = _ELEMENTWISE | _NORMS | _NORMS_OF_SUMS | _PRODUCTS | _SOURCES
    for name in inputs:
        if name not in makers or makers[name].op_type not in known:
            return f"it is not clear what {name} is in its graph"
    return RowWiseTail(frozenset(tail), tuple(inputs))


def _moving_tensors(graph: Any) -> set[str]:
    """Return what depends on the graph's inputs."""
    moving = {one.name for one in graph.input} - {one.name for one in graph.initializer}
    for node in graph.node:
        if moving.intersection(node.input):
            moving.update(name for name in node.output if name)
    return moving


def _is_row_wise(node: Any, moving: set[str], constants: Mapping[str, Any]) -> bool:
    if node.op_type in _ELEMENTWISE | _NORMS_OF_SUMS:
        return True
    if node.op_type in _NORMS:
        return _attribute(node, "axis", -1) in _LAST_AXES
    if node.op_type in _ALONG_AN_AXIS:
        return _attribute(node, "axis", 0) in _LAST_AXES
    if node.op_type in _REDUCTIONS:
        axes = list(_axes(node, constants))
        return len(axes) == 1 and axes[0] in _LAST_AXES and _attribute(node, "keepdims", 1) == 1
    return node.op_type in _PRODUCTS and not moving.intersection(node.input[1:])


def _axes(node: Any, constants: Mapping[str, Any]) -> Iterator[int]:
    for attribute in node.attribute:
        if attribute.name == "axes":
            yield from attribute.ints
    if len(node.input) > 1 and node.input[1] in constants:
        yield from numpy_helper.to_array(constants[node.input[1]]).reshape(-1).tolist()


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
