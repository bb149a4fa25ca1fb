"""Reading an ONNX graph: can its KV cache be shared by many turns?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from cupola_providers.runtime.config import GenaiConfig

LOGITS_INDEX = "logits_idx"
"""Input of graphs that compute logits only where asked: int64 [rows], flat positions in [batch, sequence]."""

_ATTENTION = "GroupQueryAttention"
_FLOAT, _INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@dataclass(frozen=True, slots=True)
class SlotsGraph:
    """A graph that the `slots` session can run, and the names of its inputs and outputs, layer by layer."""

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

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes in all layers."""
        return 2 * 4 * self.layers * self.kv_heads * self.head_size


def slots_path(folder: Path, config: GenaiConfig) -> Path:
    """Return where the second graph of a model lies, if it has one: `model.slots.onnx` beside `model.onnx`."""
    return (folder / config.model.decoder.filename).with_suffix(".slots.onnx")


def slots_graph(folder: Path, config: GenaiConfig) -> SlotsGraph | str:
    """Inspect a model's graph; returns what the session needs to know, or the reason why it cannot run it.

    The graph with `logits_idx` is taken where there is one that fits, else the model's own.
    """
    decoder = config.model.decoder
    if not decoder.filename:
        return "the model has no decoder of its own kind"
    for path in (slots_path(folder, config), folder / decoder.filename):
        if path.is_file():
            graph = _inspect(path, config)
            if isinstance(graph, SlotsGraph) or path.name == decoder.filename:
                return graph
    return f"{decoder.filename} is missing"


def _inspect(path: Path, config: GenaiConfig) -> SlotsGraph | str:
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError) as error:
        return f"{path.name} cannot be read ({type(error).__name__})"
    return next((problem for problem in _problems(graph, config) if problem), None) or _described(path, graph, config)


def _problems(graph: Any, config: GenaiConfig) -> Iterator[str]:
    """Say what is in the way, if anything."""
    names, layers = config.model.decoder.inputs, config.model.decoder.num_hidden_layers
    attention = [node for node in graph.node if node.op_type == _ATTENTION]
    if not attention:
        yield f"its graph has no {_ATTENTION}"
    if any(node.op_type.endswith("Attention") and node.op_type != _ATTENTION for node in graph.node):
        yield f"its graph has other attention than {_ATTENTION}"
    if len(attention) != layers:
        yield f"its graph has {len(attention)} {_ATTENTION} for {layers} layers"
    inputs = {one.name: one for one in graph.input}
    pasts = {*_per_layer(names.past_key_names, layers), *_per_layer(names.past_value_names, layers)}
    expected = {names.input_ids, names.attention_mask} | pasts
    if missing := sorted(expected - set(inputs)):
        yield f"its graph has no input {missing[0]}"
    if unknown := sorted(set(inputs) - expected - {LOGITS_INDEX}):
        yield f"its graph wants the input {unknown[0]}"
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


def _described(path: Path, graph: Any, config: GenaiConfig) -> SlotsGraph:
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
    )


def _per_layer(pattern: str, layers: int) -> tuple[str, ...]:
    return tuple(pattern.replace("%d", str(layer)) for layer in range(layers))


def _shape(tensor_type: Any) -> list[int]:
    """Return the dimensions; 0 stands for those without a number."""
    return [dim.dim_value for dim in tensor_type.shape.dim]
