"""Graph rewriting: logits for requested positions only, and attention unrolled by token."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
"""Operators whose first output is [batch, sequence, width] in a decoder, although they are not row-wise."""

_LAST_AXES = (-1, 2)

LOGITS_INDEX = "logits_idx"
"""Input of graphs with selected logits: int64 [positions], indices into the flattened [batch, sequence]."""

ATTENTION = "GroupQueryAttention"
_ORIGIN = "cupola.rewritten_from"
_PER_POSITION_INPUTS = slice(9, 11)  # position_ids and attention_bias


@dataclass(frozen=True, slots=True)
class RowWiseTail:
    """The row-wise end of a graph: nodes that compute every position independently.

    Attributes:
        nodes: Indices of its nodes.
        inputs: Names of its input tensors [batch, sequence, width], all computed from the graph's inputs.
    """

    nodes: frozenset[int]
    inputs: tuple[str, ...]


def row_wise_tail(graph: Any, logits: str) -> RowWiseTail | str:
    """Find the longest row-wise tail that ends in the logits.

    A node belongs to it if it is row-wise and all consumers of its results belong to it. Unknown operators are assumed
    to mix positions.

    Returns:
        The tail, or the reason why there is none.
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


def pick_logits(model: Any, logits: str) -> Any | str:
    """Make a model compute logits only for the positions in its new input `logits_idx`.

    All row-wise nodes after the last attention are computed for these positions only, including most of the last
    layer. The shape of the logits becomes [1, positions, vocab_size].

    Returns:
        The new model, or the reason why this one cannot be rewritten.
    """
    tail = row_wise_tail(model.graph, logits)
    if isinstance(tail, str):
        return tail
    model = copy.deepcopy(model)
    graph = model.graph
    nodes = list(graph.node)
    picked = {name: f"{name}.picked" for name in tail.inputs}
    ending = [nodes[index] for index in sorted(tail.nodes)]
    for node in ending:
        for position, name in enumerate(node.input):
            node.input[position] = picked.get(name, name)
    picking = [node for name in tail.inputs for node in _gather_nodes(name, picked[name])]
    kept = [node for index, node in enumerate(nodes) if index not in tail.nodes]
    _replace_nodes(graph, [*kept, *picking, *ending])
    graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 0], np.int64), "picked.flat_shape"))
    graph.input.append(helper.make_tensor_value_info(LOGITS_INDEX, TensorProto.INT64, ["rows"]))
    dimensions = next(one for one in graph.output if one.name == logits).type.tensor_type.shape.dim
    dimensions[0].dim_value = 1
    dimensions[1].dim_param = "rows"
    return model


def unroll_attention(model: Any, tokens: int) -> Any | str:
    """Unroll the attention of a model over `tokens` tokens, so that one pass computes them one by one.

    ONNX Runtime computes attention over a single token with another kernel than over several, which rounds
    differently; all other nodes compute each token independently. The new graph therefore gives bit-identical results
    to `tokens` single-token passes, in little more than the time of one pass, and supports several rows.

    Each layer has one attention node per token, which reads the cache that the previous one appended to. All present
    outputs, including the intermediate ones (`intermediate_present`), must be bound to the memory of the past.

    Returns:
        The new model, or the reason why this one cannot be rewritten.
    """
    attention = [node for node in model.graph.node if node.op_type == ATTENTION]
    if any(any(node.input[_PER_POSITION_INPUTS]) for node in attention):
        return "its attention takes positions or a bias for every token"
    model = copy.deepcopy(model)
    graph = model.graph
    outputs = {one.name: one for one in graph.output}
    graph.initializer.append(numpy_helper.from_array(np.ones(tokens, np.int64), "one_by_one.sizes"))
    for place in range(tokens):
        back = np.array(tokens - 1 - place, np.int32)
        graph.initializer.append(numpy_helper.from_array(back, f"one_by_one.back.{place}"))
    nodes: list[Any] = []
    lengths: set[str] = set()
    for node in list(graph.node):
        if node.op_type != ATTENTION:
            nodes.append(node)
            continue
        if node.input[5] not in lengths:
            lengths.add(node.input[5])
            nodes += _length_nodes(node.input[5], tokens)
        nodes += _unrolled_attention(node, tokens)
        for name in node.output[1:3]:
            for place in range(tokens - 1):
                early = copy.deepcopy(outputs[name])
                early.name = intermediate_present(name, place)
                graph.output.append(early)
    _replace_nodes(graph, nodes)
    return model


def intermediate_present(name: str, place: int) -> str:
    """Return the output name of a layer's keys or values after token `place`; the last one keeps its name."""
    return f"{name}.{place}"


def mark_origin(model: Any, path: Path) -> None:
    """Record the fingerprint of the original file in a rewritten model."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _ORIGIN, fingerprint(path)


def origin_of(model: Any) -> str | None:
    """Return the fingerprint of a rewritten model's original file; None if it was not rewritten."""
    return next((str(entry.value) for entry in model.metadata_props if entry.key == _ORIGIN), None)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file; empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _checked(graph: Any, tail: Sequence[int], inputs: Mapping[str, None]) -> RowWiseTail | str:
    """Return the tail if all its inputs are known to be [batch, sequence, width]; otherwise the reason."""
    makers = {node.output[0]: node for node in graph.node if node.output}
    makers |= {node.output[3]: node for node in graph.node if node.op_type in _NORMS_OF_SUMS and len(node.output) > 3}
    known = _ELEMENTWISE | _NORMS | _NORMS_OF_SUMS | _PRODUCTS | _SOURCES
    for name in inputs:
        if name not in makers or makers[name].op_type not in known:
            return f"it is not clear what {name} is in its graph"
    return RowWiseTail(frozenset(tail), tuple(inputs))


def _moving_tensors(graph: Any) -> set[str]:
    """Return the names of tensors that depend on the graph's inputs."""
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


def _gather_nodes(source: str, target: str) -> Iterator[Any]:
    """Gather positions: [batch, sequence, width] to [1, rows, width]."""
    yield helper.make_node("Reshape", [source, "picked.flat_shape"], [f"{source}.flat"])
    yield helper.make_node("Gather", [f"{source}.flat", LOGITS_INDEX], [target], axis=1)


def _length_nodes(last: str, tokens: int) -> Iterator[Any]:
    """Compute the last position of each row after every token."""
    for place in range(tokens):
        yield helper.make_node("Sub", [last, f"one_by_one.back.{place}"], [f"{last}.{place}"])


def _unrolled_attention(node: Any, tokens: int) -> Iterator[Any]:
    """Split the inputs of an attention node by token, attend to each, and concatenate the results."""
    for source in filter(None, node.input[:3]):
        parts = [f"{source}.{place}" for place in range(tokens)]
        yield helper.make_node("Split", [source, "one_by_one.sizes"], parts, axis=1)
    past_key, past_value = node.input[3:5]
    results = [f"{node.output[0]}.{place}" for place in range(tokens)]
    for place in range(tokens):
        one = copy.deepcopy(node)
        one.name = f"{node.name or node.output[0]}.{place}"
        for position in range(3):
            if node.input[position]:
                one.input[position] = f"{node.input[position]}.{place}"
        one.input[3], one.input[4], one.input[5] = past_key, past_value, f"{node.input[5]}.{place}"
        one.output[0] = results[place]
        if place < tokens - 1:
            one.output[1], one.output[2] = (intermediate_present(name, place) for name in node.output[1:3])
        past_key, past_value = one.output[1], one.output[2]
        yield one
    yield helper.make_node("Concat", results, [node.output[0]], axis=1)


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    replaced = [copy.deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(replaced)
    del graph.value_info[:]  # shapes have changed
