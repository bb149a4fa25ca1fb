"""Second graphs over a model's weights, for models that come without: made here, kept beside the model where possible.

The model's own files are never touched. A second graph is small, since the weights stay where they are.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cupola.errors import LoadError
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.sampling import Logits
from cupola_providers.runtime.slots.decoder import SlotDecoder
from cupola_providers.runtime.slots.graph import SlotsGraph, describe, read_model, slots_path
from cupola_providers.runtime.slots.memory import KvMemory
from cupola_providers.runtime.slots.plan import SlotPlan
from cupola_providers.runtime.slots.rewriting import attend_one_by_one, mark_origin, pick_logits

OpenNative = Callable[[SlotsGraph], Any]
"""Makes an `onnxruntime.InferenceSession` of a graph."""

_LARGEST_GRAPH_BYTES = 64_000_000
_TRIED_TOKENS = 6
_TOLERANCE = 0.02
"""Share of the range of the logits. A wrong graph is off by much more, other rounding by much less."""


def picking_graph(stock: SlotsGraph, config: GenaiConfig, open_native: OpenNative) -> SlotsGraph | str:
    """Make the graph that computes logits only where asked from one that computes all of them.

    Both compute a few tokens before the new one is believed. It is written beside the model, so that this is done
    once; where that cannot be written it is made anew each time.

    Returns:
        The new graph, or why the model's own has to serve.

    Raises:
        LoadError: ONNX Runtime does not even take the model's own graph.
    """
    model = _read(stock)
    new = model if isinstance(model, str) else pick_logits(model, stock.logits)
    if isinstance(new, str):
        return new
    mark_origin(new, stock.path)
    described = describe(new, stock.path, config)
    if isinstance(described, str):
        return described
    graph = replace(described, content=new.SerializeToString())
    if problem := _difference(stock, graph, open_native):
        return problem
    path = slots_path(stock.path.parent, config)
    return replace(graph, path=path, content=None) if _write(path, graph.content) else graph


def one_by_one_graph(graph: SlotsGraph, tokens: int) -> SlotsGraph | str:
    """Make the graph that takes a few tokens of each row as if each had come alone. It stays in memory."""
    model = _read(graph)
    new = model if isinstance(model, str) else attend_one_by_one(model, tokens)
    if isinstance(new, str):
        return new
    return replace(graph, one_by_one=tokens, content=new.SerializeToString())


def _read(graph: SlotsGraph) -> Any | str:
    if graph.content is not None:
        return onnx.load_from_string(graph.content)
    if graph.path.stat().st_size > _LARGEST_GRAPH_BYTES:
        return f"{graph.path.name} holds the weights itself, so that a second graph would hold them again"
    return read_model(graph.path)


def _difference(stock: SlotsGraph, graph: SlotsGraph, open_native: OpenNative) -> str:
    """Compute a few tokens with both graphs; returns what is wrong with the second one."""
    expected = _computed(stock, open_native)
    try:
        found = _computed(graph, open_native)
    except (LoadError, RuntimeError) as error:
        return f"ONNX Runtime does not take its rewritten graph ({str(error).splitlines()[0][:200]})"
    allowed = _TOLERANCE * float(np.ptp(expected))
    if not np.allclose(found, expected, rtol=0, atol=allowed):
        return "its rewritten graph computes something else"
    return ""


def _computed(graph: SlotsGraph, open_native: OpenNative) -> Logits:
    memory = KvMemory(graph, SlotPlan(1, 2 * _TRIED_TOKENS))
    decoder = SlotDecoder(open_native(graph), graph, memory)
    tokens = np.arange(_TRIED_TOKENS, dtype=np.int64)[None] % graph.vocab_size
    picks = [_TRIED_TOKENS - 1, 0, _TRIED_TOKENS // 2]
    logits = decoder.run(0, tokens, [_TRIED_TOKENS], picks).copy()
    decoder.close()
    return logits


def _write(path: Path, content: bytes | None) -> bool:
    """Write a file so that it is there whole or not at all; returns whether it is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content or b"")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True
