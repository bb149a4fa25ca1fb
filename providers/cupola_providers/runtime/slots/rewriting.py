"""Rewriting graphs: the same weights and the same results, computed for fewer positions or one token after the other.

Both take a model without its external data and return another one; what they were given is left as it is.
"""

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cupola_providers.runtime.slots.tail import row_wise_tail

LOGITS_INDEX = "logits_idx"
"""Input of graphs that compute logits only where asked: int64 [rows], flat positions in [batch, sequence]."""

ATTENTION = "GroupQueryAttention"
_ORIGIN = "cupola.rewritten_from"
_PER_POSITION_INPUTS = slice(9, 11)  # position_ids and attention_bias


def pick_logits(model: Any, logits: str) -> Any | str:
    """Let a model compute logits only for the positions that its new input `logits_idx` names.

    Everything behind the last attention that works position by position is computed for these alone, most of the
    last layer included. The logits become [1, rows, vocabulary].

    Returns:
        The new model, or why this one cannot be rewritten.
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
    picking = [node for name in tail.inputs for node in _picking(name, picked[name])]
    kept = [node for index, node in enumerate(nodes) if index not in tail.nodes]
    _replace_nodes(graph, [*kept, *picking, *ending])
    graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 0], np.int64), "picked.flat_shape"))
    graph.input.append(helper.make_tensor_value_info(LOGITS_INDEX, TensorProto.INT64, ["rows"]))
    dimensions = next(one for one in graph.output if one.name == logits).type.tensor_type.shape.dim
    dimensions[0].dim_value = 1
    dimensions[1].dim_param = "rows"
    return model


def attend_one_by_one(model: Any, tokens: int) -> Any | str:
    """Let the attention of a model take its tokens one after the other, as many as told, in a single pass.

    A token alone takes another path in ONNX Runtime's attention than several do, and rounds differently; everything
    else computes each token alike, whatever comes with it. So this graph gives for `tokens` tokens, to the last bit,
    what as many passes over one token give, in little more than the time of one. And other than the attention over
    several tokens it takes several rows at once.

    Each layer has an attention per token, the next one reading what the one before has appended: all presents, the
    early ones too (`early_present`), must be bound to the same memory as the past.

    Returns:
        The new model, or why this one cannot be rewritten.
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
            nodes += _lengths(node.input[5], tokens)
        nodes += _unrolled(node, tokens)
        for name in node.output[1:3]:
            for place in range(tokens - 1):
                early = copy.deepcopy(outputs[name])
                early.name = early_present(name, place)
                graph.output.append(early)
    _replace_nodes(graph, nodes)
    return model


def early_present(name: str, place: int) -> str:
    """Return the name of a layer's keys or values after one of the first tokens; the last one keeps its own name."""
    return f"{name}.{place}"


def mark_origin(model: Any, path: Path) -> None:
    """Note in a rewritten model from which file it was made."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _ORIGIN, fingerprint(path)


def origin_of(model: Any) -> str | None:
    """Return the fingerprint of the file that a model was made from; None if it was not rewritten."""
    return next((str(entry.value) for entry in model.metadata_props if entry.key == _ORIGIN), None)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file; empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _picking(source: str, target: str) -> Iterator[Any]:
    """Gather positions: [batch, sequence, width] to [1, rows, width]."""
    yield helper.make_node("Reshape", [source, "picked.flat_shape"], [f"{source}.flat"])
    yield helper.make_node("Gather", [f"{source}.flat", LOGITS_INDEX], [target], axis=1)


def _lengths(last: str, tokens: int) -> Iterator[Any]:
    """Derive from each row's last position the last positions as they are after every token."""
    for place in range(tokens):
        yield helper.make_node("Sub", [last, f"one_by_one.back.{place}"], [f"{last}.{place}"])


def _unrolled(node: Any, tokens: int) -> Iterator[Any]:
    """Split what goes into an attention by token, attend to each, put the results together."""
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
            one.output[1], one.output[2] = (early_present(name, place) for name in node.output[1:3])
        past_key, past_value = one.output[1], one.output[2]
        yield one
    yield helper.make_node("Concat", results, [node.output[0]], axis=1)


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    replaced = [copy.deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(replaced)
    del graph.value_info[:]  # shapes have changed
