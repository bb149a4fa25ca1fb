"""Opening the graphs of a model in ONNX Runtime."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from cupola.errors import LoadError
from cupola.provider import ModelFiles
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.slots.graph import SlotsGraph
from cupola_providers.runtime.slots.second_graph import one_by_one_graph, picking_graph
from cupola_providers.runtime.target import ON_CPU, Spinning, Target

CHECKED_TOKENS = 4
"""Tokens of a turn in a pass that checks guesses: with more the attention, which takes them one by one, costs more
than is won at the acceptance that is usual."""

_WEIGHTS_PER_BUDGET = 4


@dataclass(frozen=True, slots=True)
class OpenGraph:
    """A graph and its `onnxruntime.InferenceSession`."""

    graph: SlotsGraph
    native: Any


@dataclass(frozen=True, slots=True)
class OpenGraphs:
    """What runs a model.

    Attributes:
        main: Computes prompts, and a token of every turn at a time.
        checking: Computes a few tokens of every turn at a time, as if each had come alone, if that can be had.
        remarks: What to know about them, for people.
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
        """Open a model's graph, after rewriting it where that helps.

        Args:
            files: The model.
            graph: What was found in its folder.
            config: Its configuration.
            threads: Compute threads.
            spinning: Whether idle threads spin.
            speculation_budget_bytes: For speculation ONNX Runtime holds the weights twice; it is done where they
                take at most a quarter of this.
            target: Where to open them.

        Raises:
            LoadError: ONNX Runtime refuses the graph.
        """
        speculates = speculation_budget_bytes >= _WEIGHTS_PER_BUDGET * graph.weights_bytes
        spins: Spinning = "briefly" if speculates and spinning else spinning
        open_native = partial(native_session, files, target=target, threads=threads, spinning=spins)
        if not graph.picks_logits:
            found = picking_graph(graph, config, open_native)
            remark = f"{graph.path.name} computes logits for every token, since {found}"
            graph = graph if isinstance(found, str) else found
        if graph.picks_logits:
            made = ", rewritten in memory," if graph.content is not None else ""
            remark = f"{graph.path.name}{made} computes logits only where asked"
        main = OpenGraph(graph, open_native(graph))
        if not speculates:
            return cls(main, None, (remark,))
        second = one_by_one_graph(graph, CHECKED_TOKENS)
        if isinstance(second, str):
            return cls(main, None, (remark, f"answers are not guessed ahead, since {second}"))
        return cls(main, OpenGraph(second, open_native(second)), (remark, "answers are guessed ahead where that pays"))


def native_session(
    files: ModelFiles, graph: SlotsGraph, *, threads: int, spinning: Spinning, target: Target = ON_CPU
) -> Any:
    """Make the `onnxruntime.InferenceSession` of a graph.

    Raises:
        LoadError: ONNX Runtime refuses it.
    """
    folder = None if graph.content is None else graph.path.parent.absolute()
    try:
        return target.open(graph.content or graph.path, threads=threads, spinning=spinning, folder=folder)
    except Exception as error:  # the binding raises classes of its own that derive from Exception alone
        raise LoadError(model=files.id, detail=f"ONNX Runtime refuses {graph.path.name}: {error}") from error
