"""Loading a model: which kind of session runs it, how ONNX Runtime is set up, and what its refusals mean."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import onnxruntime
import onnxruntime_genai as og

from cupola import Limits, LoadError, ModelFiles, ModelFormatError, Session
from cupola_providers.runtime.config import FILE_NAME, GenaiConfig, read_config
from cupola_providers.runtime.generator import GeneratorSession
from cupola_providers.runtime.tokenizer import GenaiTokenizer

_AGAIN = "Delete the model's folder and download it again."


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """How ONNX Runtime is set up for a model.

    Attributes:
        provider: onnxruntime-genai's name of the execution provider; empty means the CPU.
        provider_options: For that provider; the CPU has none.
        threads: Compute threads of one operator; 0 leaves it to ONNX Runtime, which is slower on the CPU.
        spinning: Whether threads wait for work actively.
    """

    provider: str = ""
    provider_options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    spinning: bool = True


class Choice(NamedTuple):
    """Which kind of session runs a model, and why, for people."""

    kind: Literal["generator"]
    reason: str


def choose_kind(model: ModelFiles, config: GenaiConfig, setup: RuntimeSetup) -> Choice:  # noqa: ARG001 - see below
    """Choose the kind of session for a model. The one place where graph, configuration and provider are weighed."""
    return Choice("generator", "it runs every architecture, one turn at a time")


def open_session(model: ModelFiles, *, setup: RuntimeSetup, limits: Limits) -> Session:
    """Load a model and run one token through it, so that what cannot compute is refused now.

    Raises:
        ModelFormatError: A file is missing, damaged, or of a kind not supported.
        LoadError: ONNX Runtime cannot run it here.
    """
    og.disable_telemetry_events()
    onnxruntime.disable_telemetry_events()
    config = read_config(model.path)
    choice = choose_kind(model, config, setup)
    tokenizer = GenaiTokenizer(model.path, config)
    session = GeneratorSession(
        open_model(model, config, setup), config, tokenizer, limits, threads=setup.threads, reason=choice.reason
    )
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
    graph = model.path / config.model.decoder.filename
    if config.model.decoder.filename and not graph.is_file():
        raise ModelFormatError(path=str(graph), detail=f"the file is missing. {_AGAIN}")
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
    damaged = ("Protobuf parsing failed", "No graph was found", "External data path", "out of bounds")
    if any(sign in message for sign in damaged):
        detail = f"the model's files are damaged or incomplete ({_first_line(message)}). {_AGAIN}"
        return ModelFormatError(path=str(model.path), detail=detail)
    if "allocate" in message or "bad_alloc" in message:
        detail = f"there is not enough memory ({_first_line(message)}). Unload other models, or choose a smaller one."
        return LoadError(model=model.id, detail=detail)
    return LoadError(model=model.id, detail=f"ONNX Runtime refuses it: {_first_line(message)}")


def _first_line(message: str) -> str:
    return message.split("\n", 1)[0][:500]
