"""Loading the graphs of a model in ONNX Runtime, rewritten where that is faster."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cupola.errors import LoadError
from cupola.provider import ModelFiles
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.sampling import Logits
from cupola_providers.runtime.slots.decoder import SlotDecoder
from cupola_providers.runtime.slots.graph import SlotsGraph, describe, read_model, slots_path
from cupola_providers.runtime.slots.memory import KvMemory, SlotPlan
from cupola_providers.runtime.slots.rewriting import mark_origin, pick_logits, unroll_attention
from cupola_providers.runtime.target import ON_CPU, Spinning, Target

CHECKED_TOKENS = 4
"""Tokens of a turn in a verification pass. With more, unrolled attention costs more than drafts usually gain."""

_WEIGHTS_PER_BUDGET = 4

OpenNative = Callable[[SlotsGraph], Any]
"""Opens a graph as an `onnxruntime.InferenceSession`."""

_LARGEST_GRAPH_BYTES = 64_000_000
_TRIED_TOKENS = 6
_TOLERANCE = 0.02
"""Maximum deviation, as a fraction of the range of the logits. Rounding differs by much less, a wrong graph by more."""


@dataclass(frozen=True, slots=True)
class OpenGraph:
    """A graph and its `onnxruntime.InferenceSession`."""

    graph: SlotsGraph
    native: Any


@dataclass(frozen=True, slots=True)
class OpenGraphs:
    """The graphs of a `slots` session.

    Attributes:
        main: Computes prompts, and one token of every turn per pass.
        checking: Verifies drafts: computes several tokens of every turn, bit-identical to single-token passes.
        remarks: Remarks for users, as shown by `cupola ps`.
    """

    main: OpenGraph
    checking: OpenGraph | None = None
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        files: ModelFiles,
        graph: SlotsGraph,
        config: GenaiConfig,
        *,
        threads: int,
        spinning: bool,
        speculation_budget_bytes: int,
        target: Target = ON_CPU,
    ) -> "OpenGraphs":
        """Open the graphs of a model, rewritten where that is faster.

        Args:
            files: The model.
            graph: The graph in its folder.
            config: Its configuration.
            threads: Compute threads.
            spinning: Whether idle threads spin.
            speculation_budget_bytes: Speculation keeps a second copy of the weights. It is used if they take at most a
                quarter of this.
            target: Execution provider and device.

        Raises:
            LoadError: ONNX Runtime refuses the graph.
        """
        speculates = speculation_budget_bytes >= _WEIGHTS_PER_BUDGET * graph.weights_bytes
        spins: Spinning = "briefly" if speculates and spinning else spinning
        open_native = partial(native_session, files, target=target, threads=threads, spinning=spins)
        if not graph.picks_logits:
            found = graph_with_logits_index(graph, config, open_native)
            remark = f"{graph.path.name} computes logits for every token, since {found}"
            graph = graph if isinstance(found, str) else found
        if graph.picks_logits:
            made = ", rewritten in memory," if graph.content is not None else ""
            remark = f"{graph.path.name}{made} computes logits only where asked"
        main = OpenGraph(graph, open_native(graph))
        if not speculates:
            return cls(main, None, (remark,))
        second = token_by_token_graph(graph, CHECKED_TOKENS)
        if isinstance(second, str):
            return cls(main, None, (remark, f"no speculative decoding, since {second}"))
        return cls(main, OpenGraph(second, open_native(second)), (remark, "speculative decoding where it is faster"))


def native_session(
    files: ModelFiles, graph: SlotsGraph, *, threads: int, spinning: Spinning, target: Target = ON_CPU
) -> Any:
    """Open a graph as an `onnxruntime.InferenceSession`.

    Raises:
        LoadError: ONNX Runtime refuses it.
    """
    folder = None if graph.content is None else graph.path.parent.absolute()
    try:
        return target.open(graph.content or graph.path, threads=threads, spinning=spinning, folder=folder)
    except Exception as error:  # the binding raises its own direct subclasses of Exception
        raise LoadError(model=files.id, detail=f"ONNX Runtime rejected {graph.path.name}: {error}") from error


def graph_with_logits_index(stock: SlotsGraph, config: GenaiConfig, open_native: OpenNative) -> SlotsGraph | str:
    """Rewrite a graph so that it computes logits for requested positions only.

    The result is compared with the original on a few tokens. It is saved in the model's folder for later loads, or
    stays in memory if the folder is not writable.

    Returns:
        The new graph, or the reason why the original must be used.

    Raises:
        LoadError: ONNX Runtime rejects the model's own graph.
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
    if problem := _compare_graphs(stock, graph, open_native):
        return problem
    path = slots_path(stock.path.parent, config)
    return replace(graph, path=path, content=None) if _write(path, graph.content) else graph


def token_by_token_graph(graph: SlotsGraph, tokens: int) -> SlotsGraph | str:
    """Rewrite a graph to compute `tokens` tokens per row with unrolled attention. It stays in memory.

    Returns:
        The new graph, or the reason why it cannot be rewritten.
    """
    model = _read(graph)
    new = model if isinstance(model, str) else unroll_attention(model, tokens)
    if isinstance(new, str):
        return new
    return replace(graph, one_by_one=tokens, content=new.SerializeToString())


def _read(graph: SlotsGraph) -> Any | str:
    if graph.content is not None:
        return onnx.load_from_string(graph.content)
    if graph.path.stat().st_size > _LARGEST_GRAPH_BYTES:
        return f"{graph.path.name} contains its weights, so a second graph would duplicate them"
    return read_model(graph.path)


def _compare_graphs(stock: SlotsGraph, graph: SlotsGraph, open_native: OpenNative) -> str:
    """Compute a few tokens with both graphs; returns the problem of the rewritten one, if any."""
    expected = _compute_logits(stock, open_native)
    try:
        found = _compute_logits(graph, open_native)
    except (LoadError, RuntimeError) as error:
        return f"ONNX Runtime rejects its rewritten graph ({str(error).splitlines()[0][:200]})"
    allowed = _TOLERANCE * float(np.ptp(expected))
    if not np.allclose(found, expected, rtol=0, atol=allowed):
        return "its rewritten graph computes different logits"
    return ""


def _compute_logits(graph: SlotsGraph, open_native: OpenNative) -> Logits:
    memory = KvMemory(graph, SlotPlan(1, 2 * _TRIED_TOKENS))
    decoder = SlotDecoder(open_native(graph), graph, memory)
    tokens = np.arange(_TRIED_TOKENS, dtype=np.int64)[None] % graph.vocab_size
    picks = [_TRIED_TOKENS - 1, 0, _TRIED_TOKENS // 2]
    logits = decoder.run(0, tokens, [_TRIED_TOKENS], picks).copy()
    decoder.close()
    return logits


def _write(path: Path, content: bytes | None) -> bool:
    """Write a file atomically; returns whether it succeeded."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content or b"")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True
