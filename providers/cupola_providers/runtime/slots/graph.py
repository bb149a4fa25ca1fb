"""Inspection of ONNX graphs: whether a `slots` session can run a model, and the names and shapes it needs.

The KV cache of GroupQueryAttention is described in ONNX Runtime's ContribOperators.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.layout import layout_of
from cupola_providers.runtime.slots.rewriting import ATTENTION, LOGITS_INDEX, fingerprint, origin_of

_FLOAT, _INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@dataclass(frozen=True, slots=True)
class SlotsGraph:
    """A graph that a `slots` session can run, with the names of its inputs and outputs.

    Attributes:
        path: The ONNX file. External weights are in the same folder.
        layers: Number of transformer layers.
        kv_heads: Number of key-value heads per layer.
        head_size: Size of a head. The KV cache of a layer is float32 [rows, kv_heads, length, head_size].
        vocab_size: Size of the vocabulary.
        picks_logits: Whether it has the input `logits_idx` (int64 [positions]) and computes only those logits.
        input_ids: Name of the input of tokens, int64 [rows, count].
        attention_mask: Name of the input of the mask, int64 [rows, length].
        logits: Name of the output of logits, float32.
        past_keys: Names of the key inputs, one per layer.
        past_values: Names of the value inputs, one per layer.
        present_keys: Names of the key outputs, one per layer.
        present_values: Names of the value outputs, one per layer.
        logits_rank: 3 for logits of shape [rows, count, vocab_size], 2 for [positions, vocab_size].
        layout: Storage format of the weights, "int4-blocks"; empty if unknown.
        weights_bytes: Size of the weights, in bytes.
        one_by_one: Tokens per row in a graph with unrolled attention (`unroll_attention`); otherwise 0.
        content: The serialized graph, if it is not in a file. `path` is then the file it was derived from.
    """

    path: Path
    layers: int
    kv_heads: int
    head_size: int
    vocab_size: int
    picks_logits: bool
    input_ids: str
    attention_mask: str
    logits: str
    past_keys: tuple[str, ...]
    past_values: tuple[str, ...]
    present_keys: tuple[str, ...]
    present_values: tuple[str, ...]
    logits_rank: int = 3
    layout: str = ""
    weights_bytes: int = 0
    one_by_one: int = 0
    content: bytes | None = None

    @property
    def kv_bytes_per_token(self) -> int:
        """Size of the keys and values of one token in all layers, in bytes."""
        return 2 * 4 * self.layers * self.kv_heads * self.head_size


def slots_path(folder: Path, config: GenaiConfig) -> Path:
    """Return the path of the rewritten graph of a model: `model.slots.onnx` in the folder of `model.onnx`."""
    return (folder / config.model.decoder.filename).with_suffix(".slots.onnx")


def slots_graph(folder: Path, config: GenaiConfig) -> SlotsGraph | str:
    """Inspect a model's graph.

    A rewritten graph with `logits_idx` is preferred if it was made from the current file.

    Returns:
        The graph, or the reason why a `slots` session cannot run it.
    """
    decoder = config.model.decoder
    if not decoder.filename:
        return "the model has no decoder graph"
    stock = folder / decoder.filename
    for path in (slots_path(folder, config), stock):
        model = read_model(path) if path.is_file() else f"{path.name} is missing"
        graph = model if isinstance(model, str) else describe(model, path, config)
        if path == stock or (isinstance(graph, SlotsGraph) and not _is_outdated(model, stock)):
            return graph
    raise AssertionError("the model's own graph is the last one")


def read_model(path: Path) -> Any | str:
    """Read an ONNX file without its external weights; returns the reason if it cannot be read."""
    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        return f"{path.name} cannot be read ({type(error).__name__})"


def describe(model: Any, path: Path, config: GenaiConfig) -> SlotsGraph | str:
    """Describe a model that was read from a file; returns the reason if a `slots` session cannot run it."""
    graph = model.graph
    return next((problem for problem in _problems(graph, config) if problem), None) or _description(path, model, config)


def weights_bytes(graph: Any, path: Path) -> int:
    """Return the total size of the files with a graph's weights, or of the graph's own file, in bytes."""
    places = {entry.value for one in graph.initializer for entry in one.external_data if entry.key == "location"}
    files = [path.parent / place for place in places] or [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _is_outdated(second: Any, stock: Path) -> bool:
    """Whether a rewritten graph was made from a different version of the model's file."""
    origin = origin_of(second)
    return origin is not None and origin != fingerprint(stock)


def _problems(graph: Any, config: GenaiConfig) -> Iterator[str]:
    """Yield the reasons why a `slots` session cannot run a graph."""
    names, layers = config.model.decoder.inputs, config.model.decoder.num_hidden_layers
    attention = [node for node in graph.node if node.op_type == ATTENTION]
    if not attention:
        yield f"its graph has no {ATTENTION}"
    if any(node.op_type.endswith("Attention") and node.op_type != ATTENTION for node in graph.node):
        yield f"its graph has other attention than {ATTENTION}"
    if len(attention) != layers:
        yield f"its graph has {len(attention)} {ATTENTION} for {layers} layers"
    inputs = {one.name: one for one in graph.input}
    pasts = {*_per_layer(names.past_key_names, layers), *_per_layer(names.past_value_names, layers)}
    expected = {names.input_ids, names.attention_mask} | pasts
    if missing := sorted(expected - set(inputs)):
        yield f"its graph has no input {missing[0]}"
    if unknown := sorted(set(inputs) - expected - {LOGITS_INDEX}):
        yield f"its graph requires the input {unknown[0]}"
    if any(inputs[name].type.tensor_type.elem_type != _FLOAT for name in pasts):
        yield "its KV cache is not float32"
    if any(inputs[name].type.tensor_type.elem_type != _INT64 for name in expected - pasts):
        yield "its tokens and mask are not int64"
    constants = {one.name for one in graph.initializer}
    if any(name and name not in constants for node in attention for name in node.input[7:9]):
        yield "its rotary tables change with the length of the turn"
    yield from _output_problems(graph, config, attention)


def _output_problems(graph: Any, config: GenaiConfig, attention: Sequence[Any]) -> Iterator[str]:
    names = config.model.decoder.outputs
    outputs = {one.name: one.type.tensor_type for one in graph.output}
    presents = {name for node in attention for name in node.output[1:3]}
    layers = config.model.decoder.num_hidden_layers
    cache = {*_per_layer(names.present_key_names, layers), *_per_layer(names.present_value_names, layers)}
    if set(outputs) != {names.logits} | cache or presents != cache:
        yield "its graph's outputs are not logits and the attention's own keys and values"
    elif outputs[names.logits].elem_type != _FLOAT:
        yield "its logits are not float32"
    elif not all(_shape(outputs[name])[position] for name in presents for position in (1, 3)):
        yield "the shape of its KV cache is not given"
    elif not _shape(outputs[names.logits])[-1]:
        yield "the size of its vocabulary is not given"


def _description(path: Path, model: Any, config: GenaiConfig) -> SlotsGraph:
    graph = model.graph
    decoder, layers = config.model.decoder, config.model.decoder.num_hidden_layers
    types = {one.name: one.type.tensor_type for one in (*graph.input, *graph.output)}

    _, kv_heads, _, head_size = _shape(types[_per_layer(decoder.outputs.present_key_names, 1)[0]])
    return SlotsGraph(
        path=path,
        layers=layers,
        kv_heads=kv_heads,
        head_size=head_size,
        vocab_size=_shape(types[decoder.outputs.logits])[-1],
        picks_logits=LOGITS_INDEX in types,
        input_ids=decoder.inputs.input_ids,
        attention_mask=decoder.inputs.attention_mask,
        logits=decoder.outputs.logits,
        past_keys=_per_layer(decoder.inputs.past_key_names, layers),
        past_values=_per_layer(decoder.inputs.past_value_names, layers),
        present_keys=_per_layer(decoder.outputs.present_key_names, layers),
        present_values=_per_layer(decoder.outputs.present_value_names, layers),
        logits_rank=len(_shape(types[decoder.outputs.logits])),
        layout=layout_of(model),
        weights_bytes=weights_bytes(graph, path),
    )


def _per_layer(pattern: str, layers: int) -> tuple[str, ...]:
    return tuple(pattern.replace("%d", str(layer)) for layer in range(layers))


def _shape(tensor_type: Any) -> list[int]:
    """Return the dimensions; 0 for symbolic ones."""
    return [dim.dim_value for dim in tensor_type.shape.dim]
