"""Reading an ONNX graph: can its KV cache be shared by many turns?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.layout import layout_of
from cupola_providers.runtime.slots.rewriting import ATTENTION, LOGITS_INDEX, fingerprint, origin_of
from cupola_providers.runtime.slots.weights import weights_bytes

_FLOAT, _INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@dataclass(frozen=True, slots=True)
class SlotsGraph:
    """A graph that the `slots` session can run, and the names of its inputs and outputs, layer by layer.

    Attributes:
        path: Its file. Its weights lie beside it.
        content: The graph itself, if it is in no file: then `path` is that of the one it was made from.
        picks_logits: Whether it has the input `logits_idx` and computes logits only where asked.
        logits_rank: Dimensions of its logits: 2 for [positions, vocabulary].
        one_by_one: How many tokens of a row a pass takes if it attends to them one after the other; else 0.
        layout: How its weights are stored; empty if that is not known.
        weights_bytes: How large they are.
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
    stock = folder / decoder.filename
    for path in (slots_path(folder, config), stock):
        model = read_model(path) if path.is_file() else f"{path.name} is missing"
        graph = model if isinstance(model, str) else describe(model, path, config)
        if path == stock or (isinstance(graph, SlotsGraph) and not _is_outdated(model, stock)):
            return graph
    raise AssertionError("the model's own graph is the last one")


def read_model(path: Path) -> Any | str:
    """Read an ONNX file without its external weights, or say why that cannot be done."""
    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        return f"{path.name} cannot be read ({type(error).__name__})"


def describe(model: Any, path: Path, config: GenaiConfig) -> SlotsGraph | str:
    """Describe a model that was read from a file, or say why slots cannot run it."""
    graph = model.graph
    return next((problem for problem in _problems(graph, config) if problem), None) or _described(path, model, config)


def _is_outdated(second: Any, stock: Path) -> bool:
    """Tell whether a second graph was made from another file than the one that is there now."""
    origin = origin_of(second)
    return origin is not None and origin != fingerprint(stock)


def _problems(graph: Any, config: GenaiConfig) -> Iterator[str]:
    """Say what is in the way, if anything."""
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


def _described(path: Path, model: Any, config: GenaiConfig) -> SlotsGraph:
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
    """Return the dimensions; 0 stands for those without a number."""
    return [dim.dim_value for dim in tensor_type.shape.dim]
