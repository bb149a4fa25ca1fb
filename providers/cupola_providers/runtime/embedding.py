"""Embedding models: encoders whose last hidden states are pooled into one vector per text, on plain ONNX Runtime.

A folder contains one if the type in its genai_config.json is "bert-embedding", which onnxruntime-genai does not
support. The graph and tokenizer.json hold everything else.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnxruntime
from msgspec import Struct
from numpy.typing import NDArray

from cupola.errors import InvalidParameterError, LoadError, ModelFormatError
from cupola.provider import EmbeddingSession, Limits, ModelFiles
from cupola_providers.runtime.config import DOWNLOAD_AGAIN, FILE_NAME
from cupola_providers.runtime.embedding_wordpiece import WordPieceTokenizer
from cupola_providers.runtime.errors import first_line
from cupola_providers.runtime.target import ON_CPU, Target, nodes_by_provider

EMBEDDING_TYPE = "bert-embedding"

_TEXTS, _MASK, _SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
# Measured on two cores: above 100 tokens per pass gain nothing, and above 1000 exceed the processor's caches.
_BATCH_TOKENS = 512
_BATCH_TEXTS = 64


class EmbeddingSection(Struct, frozen=True):
    """The table `model.embedding`.

    Attributes:
        filename: The graph.
        pooling: The mean of all hidden states of the text, or the state of the first token (cls).
    """

    filename: str = "model.onnx"
    pooling: Literal["mean", "cls"] = "mean"


class _ModelSection(Struct, frozen=True):
    type: str = ""
    context_length: int = 0
    pad_token_id: int = 0
    embedding: EmbeddingSection = EmbeddingSection()


class _Config(Struct, frozen=True):
    model: _ModelSection = _ModelSection()


class PooledSession(EmbeddingSession):
    """Runs an encoder and pools its hidden states into one vector per text.

    Args:
        model: The opened graph.
        config: The model's configuration.
        tokenizer: Its tokenizer.
        context_length: Maximum number of tokens of a text.
        threads: Compute threads, for reports.
    """

    def __init__(
        self,
        model: onnxruntime.InferenceSession,
        config: _ModelSection,
        tokenizer: WordPieceTokenizer,
        *,
        context_length: int,
        threads: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.threads = threads
        self._model = model
        self._config = config
        self._inputs = {node.name for node in model.get_inputs()}
        self._output = model.get_outputs()[0].name
        self._vocab_size = tokenizer.vocab_size
        self.dimensions = len(self._batch([[config.pad_token_id]])[0])

    def embed(self, inputs: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """Return one unit vector per input: [inputs][dimensions]. Texts of similar length share a pass.

        Raises:
            InvalidParameterError: A token is not in the vocabulary.
        """
        for number, one in enumerate(inputs):
            if strange := next((token for token in one if not 0 <= token < self._vocab_size), None):
                detail = f"The token {strange} is not in this model's vocabulary of {self._vocab_size}."
                raise InvalidParameterError(param=f"input[{number}]", detail=detail)
        vectors: dict[int, Sequence[float]] = {}
        for numbers in batches([len(one) for one in inputs]):
            rows = self._batch([inputs[number] for number in numbers])
            vectors.update(zip(numbers, rows.tolist(), strict=True))
        return [vectors[number] for number in range(len(inputs))]

    def _batch(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = max(map(len, texts))
        tokens = np.full((len(texts), longest), self._config.pad_token_id, np.int64)
        mask = np.zeros_like(tokens)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = text
            mask[row, : len(text)] = 1
        feeds = {_TEXTS: tokens, _MASK: mask, _SEGMENTS: np.zeros_like(tokens)}
        (states,) = self._model.run([self._output], {name: feeds[name] for name in feeds.keys() & self._inputs})
        return pool_states(states, mask, self._config.embedding.pooling)


def pool_states(
    states: NDArray[np.float32], mask: NDArray[np.int64], pooling: Literal["mean", "cls"]
) -> NDArray[np.float32]:
    """Pool hidden states into one unit vector per text.

    Args:
        states: float32 [texts, tokens, dimensions].
        mask: int64 [texts, tokens]; 1 for tokens, 0 for padding.
        pooling: "mean" over the tokens, or "cls" for the first token.

    Returns:
        float32 [texts, dimensions].
    """
    if pooling == "cls":
        vectors = states[:, 0]
    else:
        weights = mask[..., None].astype(np.float32)
        vectors = (states * weights).sum(axis=1) / weights.sum(axis=1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalised


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of texts for each pass: of similar length, at most 64 texts and 512 tokens with padding."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        grown = len(batch) + 1
        if batch and (grown > _BATCH_TEXTS or grown * lengths[number] > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def is_embedding_model(folder: Path) -> bool:
    """Whether a folder contains an embedding model; False if its configuration cannot be read."""
    try:
        return _read_config(folder).type == EMBEDDING_TYPE
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False


def open_embedding(
    model: ModelFiles, *, threads: int, spinning: bool, limits: Limits, target: Target = ON_CPU
) -> EmbeddingSession:
    """Load an embedding model and run one token, so that a model that cannot compute fails now.

    Raises:
        ModelFormatError: A file is missing, damaged, or of a kind not supported.
        LoadError: ONNX Runtime cannot run it on this machine.
    """
    onnxruntime.disable_telemetry_events()
    try:
        config = _read_config(model.path)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFormatError(path=str(model.path / FILE_NAME), detail=f"{error}. {DOWNLOAD_AGAIN}") from error
    if config.context_length < 1:
        detail = f"model.context_length is {config.context_length}, but a model has at least 1. {DOWNLOAD_AGAIN}"
        raise ModelFormatError(path=str(model.path / FILE_NAME), detail=detail)
    tokenizer = WordPieceTokenizer(model.path)
    context_length = min(config.context_length, limits.context_length or config.context_length)
    graph = _open_graph(model, config, target, threads=threads, spinning=spinning)
    try:
        session = PooledSession(graph, config, tokenizer, context_length=context_length, threads=threads)
    except Exception as error:  # the binding raises its own direct subclasses of Exception
        detail = f"its files do not fit together ({first_line(str(error).strip())}). {DOWNLOAD_AGAIN}"
        raise LoadError(model=model.id, detail=detail) from error
    session.nodes = nodes_by_provider(graph)
    return session


def _open_graph(
    model: ModelFiles, config: _ModelSection, target: Target, *, threads: int, spinning: bool
) -> onnxruntime.InferenceSession:
    path = model.path / config.embedding.filename
    if not path.is_file():
        raise ModelFormatError(path=str(path), detail=f"the file is missing. {DOWNLOAD_AGAIN}")
    try:
        graph = target.open(path, threads=threads, spinning=spinning)
    except Exception as error:  # as above
        detail = f"ONNX Runtime cannot read the graph ({first_line(str(error).strip())}). {DOWNLOAD_AGAIN}"
        raise ModelFormatError(path=str(path), detail=detail) from error
    strange = {node.name for node in graph.get_inputs()} - {_TEXTS, _MASK, _SEGMENTS}
    if strange:
        names = ", ".join(sorted(strange))
        detail = f"it requires the inputs {names}, which text encoders do not have. Choose another model."
        raise ModelFormatError(path=str(path), detail=detail)
    if len(graph.get_outputs()[0].shape) != 3:
        detail = "its first output is not the hidden states of all tokens. Choose another model."
        raise ModelFormatError(path=str(path), detail=detail)
    return graph


def _read_config(folder: Path) -> _ModelSection:
    return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=_Config).model
