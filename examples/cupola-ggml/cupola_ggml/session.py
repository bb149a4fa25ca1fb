"""A session on plain ONNX Runtime with the ggml provider: one turn at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import onnxruntime_ggml
import psutil
from numpy.typing import NDArray

from cupola.errors import CupolaError, LoadError, to_wire
from cupola.provider import Limits, ModelFiles, Session, TokenEvent, Turn
from cupola_ggml import GgmlOptions
from cupola_ggml.encoding import Encoder
from cupola_ggml.standard import StandardGraph, standard_graph
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.row import Row, Rows
from cupola_providers.runtime.sampling import sample
from cupola_providers.runtime.tokenizer import GenaiTokenizer

_HIDDEN = np.float32(-1e9)


class GgmlSession(Session):
    """Runs one turn at a time. Each pass feeds the KV cache to the graph and gets the extended one back.

    Args:
        model: The files of the model.
        options: The options of the provider.
        limits: The limits of the session.

    Raises:
        LoadError: The graph cannot be rewritten in standard ONNX operators, or ggml refuses it.
    """

    kind = "generator"
    reason = "ggml runs one turn at a time"
    capacity = 1

    def __init__(self, model: ModelFiles, options: GgmlOptions, limits: Limits) -> None:
        config = read_config(model.path)
        self.context_length = min(config.model.context_length, limits.context_length or config.model.context_length)
        self.tokenizer = GenaiTokenizer(model.path, config, Encoder(model.path))
        self.threads = options.threads or psutil.cpu_count(logical=False) or 1
        self._graph = standard_graph(model, config)
        self._native = _open(model, self._graph, {"device": options.device, "threads": self.threads})
        self.nodes = _nodes(self._native)
        sizes = {"vocab_size": config.model.vocab_size, "context_length": self.context_length}
        self._rows = Rows(config, self.tokenizer, **sizes)
        self._chunk = limits.prefill_chunk
        self._row: Row | None = None
        self._refused: list[TokenEvent] = []
        self._cache: dict[str, NDArray[np.float32]] = {}

    def check(self, turn: Turn) -> None:
        """Raise `RequestError` for a turn that can never run."""
        self._rows.open(turn)

    def admit(self, turn: Turn) -> None:
        """Start a turn."""
        try:
            self._row, self._cache = self._rows.open(turn), self._graph.empty_cache()
        except CupolaError as error:
            self._refused.append(TokenEvent(turn.id, error=to_wire(error)))

    def step(self) -> Sequence[TokenEvent]:
        """Compute a chunk of the prompt, or the last token, and sample the next token."""
        events, self._refused = self._refused, []
        if self._row is not None:
            events.append(self._advance(self._row))
            if events[-1].finish or events[-1].error:
                self._row = None
        return events

    def cancel(self, turn_id: int) -> None:
        """Drop a turn."""
        self._refused = [event for event in self._refused if event.turn_id != turn_id]
        if self._row is not None and self._row.id == turn_id:
            self._row = None

    def close(self) -> None:
        """Free the model."""
        self._row, self._native, self._cache = None, None, {}

    def _advance(self, row: Row) -> TokenEvent:
        chunk, row.pending = row.pending[: self._chunk], row.pending[self._chunk :]
        logits = self._pass(chunk)
        if row.pending:
            return row.event()
        return row.accept(int(sample(logits, [row.sampler])[0]), logits[0])

    def _pass(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Compute tokens. Return the logits after the last one, float32 [1, vocabulary]."""
        held = next(iter(self._cache.values())).shape[2]
        positions = np.arange(held, held + len(tokens))
        sees = np.arange(held + len(tokens)) <= positions[:, None]
        mask = np.where(sees, np.float32(0), _HIDDEN)
        given = {
            "input_ids": np.array([tokens], np.int64),
            "rotary.cos": self._graph.cos[positions][None, None],
            "rotary.sin": self._graph.sin[positions][None, None],
            "mask": np.tile(mask, (self._graph.group, 1))[None, None],
        }
        logits, *cache = self._native.run(None, given | self._cache)
        self._cache = dict(zip(self._cache, cache, strict=True))
        return np.asarray(logits[:, -1], np.float32)


def _open(model: ModelFiles, graph: StandardGraph, options: dict[str, Any]) -> Any:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    onnxruntime_ggml.session_options(options, base=settings)
    try:
        return graph.open(settings)
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        raise LoadError(model=model.id, detail=f"ONNX Runtime or ggml refuses it: {error}") from error


def _nodes(native: Any) -> dict[str, int]:
    return {part.ep_name: len(part.get_nodes()) for part in native.get_provider_graph_assignment_info()}
