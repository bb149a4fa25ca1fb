"""Loading a model: which kind of session runs it, how ONNX Runtime is set up, and what its refusals mean."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import onnxruntime
import onnxruntime_genai as og
import psutil

from cupola.errors import CupolaError, LoadError, ModelFormatError, from_wire
from cupola.provider import Limits, ModelFiles, Sampling, Session, TokenEvent, Turn
from cupola_providers.runtime.config import GenaiConfig, read_config
from cupola_providers.runtime.generator import GeneratorSession
from cupola_providers.runtime.layout import graph_nodes, read_layout
from cupola_providers.runtime.paged import PagedSession
from cupola_providers.runtime.refusals import AGAIN, damage, explained, first_line
from cupola_providers.runtime.slots import SlotPlan, SlotsGraph, SlotsSession, slots_graph
from cupola_providers.runtime.target import CPU, ON_CPU, Target, nodes_taken
from cupola_providers.runtime.tokenizer import GenaiTokenizer

SessionKind = Literal["slots", "paged", "generator"]

_PAGED_PROVIDERS = {"cuda", "webgpu"}
"""Where ONNX Runtime has PagedAttention."""

_SHARE_OF_FREE_MEMORY = 4


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """How ONNX Runtime is set up for a model.

    Attributes:
        target: Where it runs.
        threads: Compute threads of one operator; 0 leaves it to ONNX Runtime, which is slower on the CPU.
        spinning: Whether threads wait for work actively.
        session: The kind of session to use, or "auto".
        kv_memory_bytes: Most memory for the KV cache of a `slots` session; 0 takes a quarter of what is free.
        speculation: Whether a `slots` session may guess answers ahead.
    """

    target: Target = ON_CPU
    threads: int = 0
    spinning: bool = True
    session: Literal["auto", "slots", "generator"] = "auto"
    kv_memory_bytes: int = 0
    speculation: bool = True

    @property
    def kv_budget_bytes(self) -> int:
        """Most memory that the KV cache may come to take."""
        return self.kv_memory_bytes or psutil.virtual_memory().available // _SHARE_OF_FREE_MEMORY


class Choice(NamedTuple):
    """Which kind of session runs a model, and why, for people. Slots come with the graph that they run."""

    kind: SessionKind
    reason: str
    graph: SlotsGraph | None = None


def choose_kind(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup, limits: Limits) -> Choice:
    """Choose the kind of session for a model. The one place where graph, configuration and provider are weighed.

    Raises:
        LoadError: The setup asks for slots, and they cannot run it; or it is for devices of another kind.
    """
    if config.engine.dynamic_batching is not None:
        if setup.target.genai_name.lower() not in _PAGED_PROVIDERS:
            detail = "it was exported with PagedAttention, which runs on CUDA and WebGPU only. Take its CPU variant"
            raise LoadError(model=model.id, detail=detail)
        return Choice("paged", PagedSession.reason)
    if setup.session == "generator":
        return Choice("generator", "the setting session = generator asks for it; it runs one turn at a time")
    found = _slots_for(model, config, setup, limits)
    if isinstance(found, SlotsGraph):
        return Choice("slots", "", found)
    if setup.session == "slots":
        detail = f"the setting session = slots asks for slots, but {found}. Set session to auto"
        raise LoadError(model=model.id, detail=detail)
    return Choice("generator", f"{found}, so turns run one at a time")


def _slots_for(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup, limits: Limits) -> SlotsGraph | str:
    """Return the graph that slots would run, or what is in the way."""
    if not setup.target.host_cache:
        return f"slots keep their KV cache in the machine's own memory, and {setup.target.genai_name} has its own"
    if not setup.target.shares_cache:
        return f"slots append to their KV cache in place, and the attention of {setup.target.genai_name} does not"
    graph = slots_graph(model.path, config)
    if isinstance(graph, str):
        return graph
    context_length = limits.context_length or config.model.context_length
    budget = setup.kv_budget_bytes
    if not SlotPlan.for_budget(budget, bytes_per_token=graph.kv_bytes_per_token, context_length=context_length):
        return (
            f"{budget / 1e6:,.0f} MB are too little for a KV cache of {graph.kv_bytes_per_token / 1e3:,.0f} kB a token"
        )
    return graph


def open_session(model: ModelFiles, *, setup: RuntimeSetup, limits: Limits) -> Session:
    """Load a model and run a little through it, so that what cannot compute is refused now.

    Raises:
        ModelFormatError: A file is missing, damaged, or of a kind not supported.
        LoadError: ONNX Runtime cannot run it here.
    """
    og.disable_telemetry_events()
    onnxruntime.disable_telemetry_events()
    config = read_config(model.path)
    graph_path = model.path / config.model.decoder.filename
    if config.model.decoder.filename and not graph_path.is_file():
        raise ModelFormatError(path=str(graph_path), detail=f"the file is missing. {AGAIN}")
    choice = choose_kind(model, config, setup, limits)
    nodes = {} if choice.graph else _nodes(model, config, graph_path, setup)
    tokenizer = GenaiTokenizer(model.path, config)
    session: Session
    if choice.graph:
        session = _open_slots(model, config, tokenizer, choice.graph, setup=setup, limits=limits)
    elif choice.kind == "paged":
        context_length = min(config.model.context_length, limits.context_length or config.model.context_length)
        session = PagedSession(open_model(model, config, setup), config, tokenizer, context_length=context_length)
    else:
        session = _open_generator(model, config, tokenizer, choice.reason, setup=setup, limits=limits)
    session.layout = session.layout or read_layout(graph_path)
    session.nodes = session.nodes or nodes
    return session


def _nodes(model: ModelFiles, config: GenaiConfig, graph_path: Path, setup: RuntimeSetup) -> dict[str, int]:
    """Return how many nodes each provider takes of a model that onnxruntime-genai runs, which does not tell.

    So its graph is opened on the same target in plain ONNX Runtime before, and closed again. On the processor there is
    nothing to be found out, and of a pipeline of several graphs nothing is said. A provider that ONNX Runtime does not
    know is left to onnxruntime-genai, which says what it lacks.
    """
    if setup.target.provider == CPU or not config.model.decoder.filename or not setup.target.is_known:
        return {}
    try:
        taken = nodes_taken(setup.target.open(graph_path, threads=setup.threads, spinning=setup.spinning))
    except Exception as error:  # the binding raises classes of its own that derive from Exception alone
        raise explained(model, config, str(error).strip()) from error
    if setup.target.provider not in taken and (others := graph_nodes(graph_path) - sum(taken.values())) > 0:
        taken[setup.target.provider] = others  # ONNX Runtime 1.27 does not tell of WebGPU's, but of all others
    return taken


def _open_slots(
    model: ModelFiles,
    config: GenaiConfig,
    tokenizer: GenaiTokenizer,
    graph: SlotsGraph,
    *,
    setup: RuntimeSetup,
    limits: Limits,
) -> SlotsSession:
    if config.model.vocab_size != graph.vocab_size or max(config.control_token_ids, default=0) >= graph.vocab_size:
        detail = f"the tokens of its configuration are not the {graph.vocab_size} of its graph"
        raise LoadError(model=model.id, detail=f"its files do not fit together ({detail}). {AGAIN}")
    try:
        session = SlotsSession.open(
            model,
            config,
            tokenizer,
            threads=setup.threads,
            spinning=setup.spinning,
            limits=limits,
            memory_budget_bytes=setup.kv_budget_bytes,
            graph=graph,
            speculation=setup.speculation and setup.target.provider == CPU,
            target=setup.target,
        )
    except LoadError as error:
        raise damage(model, error.detail) or error from error
    if problem := _problem_of_a_turn(session):
        raise LoadError(model=model.id, detail=f"{problem} {AGAIN}")
    return session


def _problem_of_a_turn(session: Session) -> CupolaError | None:
    """Run a turn of two tokens and one; returns what went wrong."""
    session.admit(Turn(0, [0, 0], 1, Sampling(temperature=0.0), ignore_eos=True))
    events: list[TokenEvent] = []
    while not (events and (events[-1].finish or events[-1].error)):
        events += session.step()
    return from_wire(events[-1].error) if events[-1].error else None


def _open_generator(
    model: ModelFiles,
    config: GenaiConfig,
    tokenizer: GenaiTokenizer,
    reason: str,
    *,
    setup: RuntimeSetup,
    limits: Limits,
) -> GeneratorSession:
    native = open_model(model, config, setup)
    session = GeneratorSession(native, config, tokenizer, limits, threads=setup.threads, reason=reason)
    try:
        session.try_out()
    except RuntimeError as error:  # dimensions or token ids in the configuration that the graph does not have
        detail = f"its files do not fit together ({first_line(str(error))}). {AGAIN}"
        raise LoadError(model=model.id, detail=detail) from error
    return session


def open_model(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup) -> og.Model:
    """Open a model in onnxruntime-genai.

    Raises:
        ModelFormatError: A file is missing, damaged, or of a kind not supported.
        LoadError: ONNX Runtime cannot run it here.
    """
    try:
        return og.Model(_library_config(model.path, setup))
    except RuntimeError as error:
        raise explained(model, config, str(error).strip()) from error


def _library_config(folder: Path, setup: RuntimeSetup) -> og.Config:
    config = og.Config(str(folder))
    setup.target.write(config)
    options: dict[str, object] = {"session.intra_op.allow_spinning": "1" if setup.spinning else "0"}
    if setup.threads:
        options["intra_op_num_threads"] = setup.threads
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return config
