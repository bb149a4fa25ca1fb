"""Loading a model: which kind of session runs it, how ONNX Runtime is set up, and what its refusals mean."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import onnxruntime
import onnxruntime_genai as og
import psutil

from cupola import CupolaError, Limits, LoadError, ModelFiles, ModelFormatError, Sampling, Session, TokenEvent, Turn
from cupola.errors import from_wire
from cupola_providers.runtime.config import FILE_NAME, GenaiConfig, read_config
from cupola_providers.runtime.generator import GeneratorSession
from cupola_providers.runtime.layout import read_layout
from cupola_providers.runtime.paged import PagedSession
from cupola_providers.runtime.slots import SlotPlan, SlotsGraph, SlotsSession, slots_graph
from cupola_providers.runtime.tokenizer import GenaiTokenizer

SessionKind = Literal["slots", "paged", "generator"]

_PAGED_PROVIDERS = {"cuda", "webgpu"}
"""Where ONNX Runtime has PagedAttention."""

_AGAIN = "Delete the model's folder and download it again."
_SHARE_OF_FREE_MEMORY = 4


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """How ONNX Runtime is set up for a model.

    Attributes:
        provider: onnxruntime-genai's name of the execution provider; empty means the CPU.
        provider_options: For that provider; the CPU has none.
        threads: Compute threads of one operator; 0 leaves it to ONNX Runtime, which is slower on the CPU.
        spinning: Whether threads wait for work actively.
        session: The kind of session to use, or "auto".
        kv_memory_bytes: Most memory for the KV cache of a `slots` session; 0 takes a quarter of what is free.
        speculation: Whether a `slots` session may guess answers ahead.
    """

    provider: str = ""
    provider_options: Mapping[str, str] = field(default_factory=dict)
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
        if setup.provider.lower() not in _PAGED_PROVIDERS:
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
    if setup.provider:
        return f"slots run on the CPU only, not on {setup.provider}"
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
        raise ModelFormatError(path=str(graph_path), detail=f"the file is missing. {_AGAIN}")
    choice = choose_kind(model, config, setup, limits)
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
    return session


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
        raise LoadError(model=model.id, detail=f"its files do not fit together ({detail}). {_AGAIN}")
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
            speculation=setup.speculation,
        )
    except LoadError as error:
        raise _damage(model, error.detail) or error from error
    if problem := _problem_of_a_turn(session):
        raise LoadError(model=model.id, detail=f"{problem} {_AGAIN}")
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
        detail = f"its files do not fit together ({_first_line(str(error))}). {_AGAIN}"
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
        raise _explained(model, config, str(error).strip()) from error


def _library_config(folder: Path, setup: RuntimeSetup) -> og.Config:
    config = og.Config(str(folder))
    config.clear_providers()  # what the file names is the publisher's guess; the placement has decided
    if setup.provider:
        config.append_provider(setup.provider)
        for key, value in setup.provider_options.items():
            config.set_provider_option(setup.provider, key, value)
    options: dict[str, object] = {"session.intra_op.allow_spinning": "1" if setup.spinning else "0"}
    if setup.threads:
        options["intra_op_num_threads"] = setup.threads
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return config


def _explained(model: ModelFiles, config: GenaiConfig, message: str) -> ModelFormatError | LoadError:
    """Say what an error of og.Config or og.Model means. Its texts are those of 0.18.0."""
    if "Unsupported model_type" in message:
        kind = config.model.type
        detail = f"models of the type {kind!r} are not supported by onnxruntime-genai {og.__version__}"
        return ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{detail}. Choose another model.")
    if "while parsing" in message:
        return ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{message}. {_AGAIN}")
    if damage := _damage(model, message):
        return damage
    if "allocate" in message or "bad_alloc" in message:
        detail = f"there is not enough memory ({_first_line(message)}). Unload other models, or choose a smaller one."
        return LoadError(model=model.id, detail=detail)
    return LoadError(model=model.id, detail=f"ONNX Runtime refuses it: {_first_line(message)}")


def _damage(model: ModelFiles, message: str) -> ModelFormatError | None:
    """Recognise what ONNX Runtime says of files that are damaged."""
    signs = ("Protobuf parsing failed", "No graph was found", "External data path", "out of bounds")
    if not any(sign in message for sign in signs):
        return None
    detail = f"the model's files are damaged or incomplete ({_first_line(message)}). {_AGAIN}"
    return ModelFormatError(path=str(model.path), detail=detail)


def _first_line(message: str) -> str:
    return message.split("\n", 1)[0][:500]
