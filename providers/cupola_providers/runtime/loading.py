"""Loading a model: which kind of session runs it, how ONNX Runtime is set up, and what its refusals mean."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import onnxruntime
import onnxruntime_genai as og
import psutil

from cupola.errors import CupolaError, LoadError, ModelFormatError, from_wire
from cupola.provider import Device, EmbeddingSession, Limits, ModelFiles, Sampling, Session, TokenEvent, Turn
from cupola_providers.processor import usable_cores
from cupola_providers.runtime.accelerator import Accelerator
from cupola_providers.runtime.config import DOWNLOAD_AGAIN, GenaiConfig, read_config
from cupola_providers.runtime.devices import DeviceProblem, FoundDevice, find_devices
from cupola_providers.runtime.embedding import is_embedding_model, open_embedding
from cupola_providers.runtime.errors import as_damage_error, first_line, translate_error
from cupola_providers.runtime.generator import GeneratorSession
from cupola_providers.runtime.layout import graph_nodes, read_layout
from cupola_providers.runtime.paged import PagedSession
from cupola_providers.runtime.slots import SlotPlan, SlotsGraph, SlotsSession, slots_graph
from cupola_providers.runtime.target import CPU, ON_CPU, Target, nodes_by_provider
from cupola_providers.runtime.tokenizer import GenaiTokenizer

SessionKind = Literal["slots", "paged", "generator"]

_PAGED_PROVIDERS = {"cuda", "webgpu"}
"""Providers, by onnxruntime-genai's name, for which ONNX Runtime implements PagedAttention."""

_SHARE_OF_FREE_MEMORY = 4


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """Settings of ONNX Runtime for one model.

    Attributes:
        target: Execution provider and device.
        threads: Compute threads of one operator; 0 uses ONNX Runtime's default, which is slower on the CPU.
        spinning: Whether idle threads spin.
        session: Kind of session, or "auto".
        kv_memory_bytes: Maximum size of the KV cache of a `slots` session; 0 uses a quarter of the free memory.
        speculation: Whether a `slots` session may use speculative decoding.
    """

    target: Target = ON_CPU
    threads: int = 0
    spinning: bool = True
    session: Literal["auto", "slots", "generator"] = "auto"
    kv_memory_bytes: int = 0
    speculation: bool = True

    @property
    def kv_budget_bytes(self) -> int:
        """Maximum size of the KV cache, in bytes."""
        return self.kv_memory_bytes or psutil.virtual_memory().available // _SHARE_OF_FREE_MEMORY


class Choice(NamedTuple):
    """The kind of session for a model, the reason to show to users, and the graph of a `slots` session."""

    kind: SessionKind
    reason: str
    graph: SlotsGraph | None = None


def choose_kind(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup, limits: Limits) -> Choice:
    """Choose the kind of session from the graph, the configuration and the provider.

    Raises:
        LoadError: The setup requires slots, which cannot run this model; or the model is for other devices.
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


def open_session(model: ModelFiles, *, setup: RuntimeSetup, limits: Limits) -> Session:
    """Load a model and run a short trial turn, so that a model that cannot compute fails now.

    Raises:
        ModelFormatError: A file is missing, damaged, or of a kind not supported.
        LoadError: ONNX Runtime cannot run it on this machine.
    """
    og.disable_telemetry_events()
    onnxruntime.disable_telemetry_events()
    config = read_config(model.path)
    graph_path = model.path / config.model.decoder.filename
    if config.model.decoder.filename and not graph_path.is_file():
        raise ModelFormatError(path=str(graph_path), detail=f"the file is missing. {DOWNLOAD_AGAIN}")
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


def open_model(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup) -> og.Model:
    """Open a model in onnxruntime-genai.

    Raises:
        ModelFormatError: A file is missing, damaged, or of a kind not supported.
        LoadError: ONNX Runtime cannot run it on this machine.
    """
    try:
        return og.Model(_library_config(model.path, setup))
    except RuntimeError as error:
        raise translate_error(model, config, str(error).strip()) from error


def select_target(
    accelerator: Accelerator,
    model: ModelFiles,
    device: Device,
    options: Mapping[str, str],
    *,
    native_options: Mapping[str, str] | None = None,
    shares_cache: bool = True,
) -> Target:
    """Select the device of an accelerator for a model.

    Args:
        accelerator: The accelerator.
        model: The model, for error messages.
        device: The placement's device.
        options: Provider options for onnxruntime-genai.
        native_options: Provider options for plain ONNX Runtime, if they differ.
        shares_cache: Whether attention appends to the KV cache in place.

    Raises:
        LoadError: The provider is not available on this machine, or has no such device.
    """
    found = find_devices(accelerator)
    if isinstance(found, DeviceProblem):
        detail = f"{accelerator.name} is not available: {found.problem}. Remedy: {found.remedy}"
        raise LoadError(model=model.id, detail=detail)
    chosen = _chosen(found, device)
    if chosen is None:
        there = ", ".join(f"{one.device.type} {one.device.index} ({one.device.name})" for one in found)
        detail = f"{accelerator.name} has no {device.type} {device.index} on this machine. Available: {there}"
        raise LoadError(model=model.id, detail=detail)
    return Target(
        provider=accelerator.name,
        genai_name=accelerator.genai_name,
        options={**chosen.options, **options},
        native_options=None if native_options is None else {**chosen.options, **native_options},
        device=chosen.native,
        shares_cache=shares_cache,
        host_cache=False,
    )


def load_on_accelerator(target: Target, model: ModelFiles, limits: Limits) -> Session | EmbeddingSession:
    """Load a model on a target.

    Raises:
        LoadError: The runtime cannot load the model; the detail names a remedy.
            ModelFormatError: A file of the model is missing, damaged or unsupported.
    """
    threads = usable_cores()
    if is_embedding_model(model.path):
        return open_embedding(model, threads=threads, spinning=True, limits=limits, target=target)
    return open_session(model, setup=RuntimeSetup(target=target, threads=threads), limits=limits)


def _slots_for(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup, limits: Limits) -> SlotsGraph | str:
    """Return the graph that a `slots` session can run, or the reason why there is none."""
    if not setup.target.host_cache:
        return f"slots keep their KV cache in main memory, but {setup.target.genai_name} keeps it on the device"
    if not setup.target.shares_cache:
        return f"slots append to their KV cache in place, but the attention of {setup.target.genai_name} does not"
    graph = slots_graph(model.path, config)
    if isinstance(graph, str):
        return graph
    context_length = limits.context_length or config.model.context_length
    budget = setup.kv_budget_bytes
    if not SlotPlan.for_budget(budget, bytes_per_token=graph.kv_bytes_per_token, context_length=context_length):
        needed = f"{graph.kv_bytes_per_token / 1e3:,.0f} kB per token"
        return f"{budget / 1e6:,.0f} MB are not enough for a KV cache of {needed}"
    return graph


def _nodes(model: ModelFiles, config: GenaiConfig, graph_path: Path, setup: RuntimeSetup) -> dict[str, int]:
    """Return the number of graph nodes by provider, for a model that onnxruntime-genai runs.

    onnxruntime-genai does not report this, so the graph is opened in plain ONNX Runtime on the same target and closed
    again. The result is empty for the CPU, for pipelines of several graphs, and for providers unknown to ONNX Runtime,
    for which onnxruntime-genai reports the error.
    """
    if setup.target.provider == CPU or not config.model.decoder.filename or not setup.target.is_known:
        return {}
    try:
        taken = nodes_by_provider(setup.target.open(graph_path, threads=setup.threads, spinning=setup.spinning))
    except Exception as error:  # the binding raises classes of its own that derive from Exception alone
        raise translate_error(model, config, str(error).strip()) from error
    if setup.target.provider not in taken and (others := graph_nodes(graph_path) - sum(taken.values())) > 0:
        taken[setup.target.provider] = others  # ONNX Runtime 1.27 omits the nodes of WebGPU only
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
        raise LoadError(model=model.id, detail=f"its files do not fit together ({detail}). {DOWNLOAD_AGAIN}")
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
        raise as_damage_error(model, error.detail) or error from error
    if problem := _run_trial_turn(session):
        raise LoadError(model=model.id, detail=f"{problem} {DOWNLOAD_AGAIN}")
    return session


def _run_trial_turn(session: Session) -> CupolaError | None:
    """Run a turn of two prompt tokens and one answer token; returns its error, if any."""
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
        detail = f"its files do not fit together ({first_line(str(error))}). {DOWNLOAD_AGAIN}"
        raise LoadError(model=model.id, detail=detail) from error
    return session


def _library_config(folder: Path, setup: RuntimeSetup) -> og.Config:
    config = og.Config(str(folder))
    setup.target.apply_to(config)
    options: dict[str, object] = {"session.intra_op.allow_spinning": "1" if setup.spinning else "0"}
    if setup.threads:
        options["intra_op_num_threads"] = setup.threads
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return config


def _chosen(found: list[FoundDevice], device: Device) -> FoundDevice | None:
    matching = [one for one in found if one.device.type == device.type]
    return matching[device.index] if device.index < len(matching) else None
