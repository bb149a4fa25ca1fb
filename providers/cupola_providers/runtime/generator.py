"""The `generator` session: one turn at a time on `og.Generator`, for any architecture and provider."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import onnxruntime_genai as og

from cupola.errors import CupolaError, WorkerError, to_wire
from cupola.provider import Limits, Session, TokenEvent, Turn
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.row import Row, Rows
from cupola_providers.runtime.sampling import sample
from cupola_providers.runtime.slots.table import common_prefix
from cupola_providers.runtime.tokenizer import GenaiTokenizer

logger = logging.getLogger(__name__)

SMALLEST_CAPACITY = 256
ANSWER_RESERVE = 512
"""Tokens reserved for an answer at its start. Longer answers grow the KV cache."""
KEPT_CAPACITY = 1024
"""A KV cache of at most this many tokens is never shrunk."""
ROOMY_TURNS = 4
"""A larger KV cache is replaced after this many consecutive turns that needed at most a quarter of it."""
_LONGEST_CHUNK = 128  # longer chunks are not faster with this library, and delay cancellation


def capacity_for(tokens: int, context_length: int) -> int:
    """Return the capacity of a KV cache in tokens: a power of two from 256 on, at most the context length."""
    capacity = SMALLEST_CAPACITY
    while capacity < tokens:
        capacity *= 2
    return min(capacity, context_length)


class KeyValueCache:
    """One `og.Generator` that is reused between turns, and the tokens in its KV cache.

    Creating a Generator clears memory for its whole capacity (46 kB per token for SmolLM2-135M, 600 ms for a context
    of 8192). It is therefore created with the capacity that a turn needs, and reused: `rewind_to` the longest common
    prefix, then append the rest.

    Reuse must not change an answer by a single bit. Tokens that are computed two or more at a time give the same keys,
    values and logits in any chunking; a single token uses another kernel of ONNX Runtime. So only tokens that were
    computed as a prompt are reused, and the rest is never a single token. For the same reason a turn uses the
    capacity it requested even if the Generator has more.

    Attributes:
        capacity: Tokens that the Generator has memory for.
        tokens: Tokens in its KV cache.
    """

    def __init__(self, model: Any, context_length: int) -> None:
        self.capacity = 0
        self.tokens: list[int] = []
        self._prefilled = 0
        self._limit = 0
        self._model = model
        self._context_length = context_length
        self._generator: Any = None
        self._roomy_turns = 0

    def begin(self, prompt: Sequence[int], reserve: int) -> int:
        """Prepare for a turn; returns the number of prompt tokens that are cached.

        At least the last two prompt tokens are computed again, since the first sampled token needs their logits.
        """
        self._limit = capacity_for(len(prompt) + reserve, self._context_length)
        is_roomy = self.capacity > KEPT_CAPACITY and self._limit * 4 <= self.capacity
        self._roomy_turns = self._roomy_turns + 1 if is_roomy else 0
        if self._limit > self.capacity or self._roomy_turns >= ROOMY_TURNS:
            self._renew(self._limit)
        else:
            self.rewind(min(common_prefix(self.tokens, prompt[:-2]), self._prefilled))
        return len(self.tokens)

    def append(self, tokens: Sequence[int]) -> None:
        """Compute tokens in one forward pass. They must fit (`fits`, `grow`)."""
        self._generator.append_tokens(tokens)
        if self._prefilled == len(self.tokens) and len(tokens) > 1:
            self._prefilled += len(tokens)
        self.tokens += tokens

    def fits(self, count: int) -> bool:
        """Whether `count` more tokens fit."""
        return len(self.tokens) + count <= self._limit

    def grow(self) -> list[int]:
        """At least double the capacity; returns the tokens that must be computed again."""
        held = self.tokens.copy()
        self._limit = capacity_for(2 * self._limit, self._context_length)
        if self._limit > self.capacity:
            self._renew(self._limit)
        else:
            self.rewind(self._prefilled)
        return held[len(self.tokens) :]

    def logits(self) -> Any:
        """Return the logits after the last token, float32 [1, vocab]."""
        return self._generator.get_logits()[:, -1]

    def rewind(self, length: int) -> None:
        """Remove all tokens after the first `length`, or all tokens if the model cannot rewind."""
        if length == len(self.tokens):
            return
        try:
            self._generator.rewind_to(length)
        except RuntimeError as error:  # recurrent and some sliding-window models cannot rewind
            logger.debug("The model's cache cannot be rewound: %s", error)
            self._renew(self.capacity)
        else:
            del self.tokens[length:]
            self._prefilled = min(self._prefilled, length)

    def clear(self) -> None:
        """Remove all tokens and release the memory."""
        self._generator, self.tokens, self.capacity = None, [], 0
        self._prefilled = self._roomy_turns = 0

    def _renew(self, capacity: int) -> None:
        self.clear()  # first, so that both are never in memory at once
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=capacity, batch_size=1, num_beams=1, do_sample=False)
        self._generator = og.Generator(self._model, params)
        self.capacity = capacity


class GeneratorSession(Session):
    """Runs turns one at a time. A step computes a chunk of the prompt, or chooses a token and computes the next.

    The forward pass comes first in a step and the choice after it, so the last token of an answer is never computed
    and the first one needs nothing but the prompt. A turn that cannot run (a token outside the vocabulary, a
    sampling field out of range, logits that are not numbers) fails alone, by its event.

    Args:
        model: The `og.Model`.
        config: Its configuration.
        tokenizer: Its tokenizer.
        limits: Bounds to keep.
        threads: Compute threads, for the report.
        reason: Why this kind of session was chosen.
    """

    kind = "generator"
    capacity = 1

    def __init__(
        self,
        model: Any,
        config: GenaiConfig,
        tokenizer: GenaiTokenizer,
        limits: Limits,
        *,
        threads: int = 0,
        reason: str = "it runs every model",
    ) -> None:
        self.tokenizer = tokenizer
        self.threads = threads
        self.reason = reason
        self.context_length = min(config.model.context_length, limits.context_length or config.model.context_length)
        self._config = config
        self._chunk = max(1, min(limits.prefill_chunk, _LONGEST_CHUNK))
        self._cache = KeyValueCache(model, self.context_length)
        self._model = model
        self._rows = Rows(config, tokenizer, vocab_size=config.model.vocab_size, context_length=self.context_length)
        self._row: Row | None = None
        self._has_begun = False
        self._refused: list[TokenEvent] = []

    def check(self, turn: Turn) -> None:
        """Validate a turn.

        Raises:
            RequestError: Says what is wrong with it.
        """
        self._rows.open(turn)

    def admit(self, turn: Turn) -> None:
        """Accept a turn. The next step reports the error of a turn that cannot run."""
        try:
            self._row, self._has_begun = self._rows.open(turn), False
        except CupolaError as error:
            self._refused.append(TokenEvent(turn.id, error=to_wire(error)))

    def step(self) -> Sequence[TokenEvent]:
        """Run one forward pass and choose a token if it completed the prompt."""
        events, self._refused = self._refused, []
        row = self._row
        if row is not None:
            try:
                events.append(self._advance(row))
            except RuntimeError as error:
                logger.exception("A forward pass failed")
                events.append(self._failed(row, f"The model failed underway: {error}"))
            if events[-1].finish or events[-1].error:
                self._row = None
        return events

    def try_out(self) -> None:
        """Compute one token and forget it: what cannot compute shows now, and the first turn finds a cache made.

        Raises:
            RuntimeError: The model cannot compute.
        """
        token = min(self._config.control_token_ids, default=0)
        self._cache.begin([token], reserve=1)
        self._cache.append([token])
        if not math.isfinite(float(self._cache.logits().max())):
            raise RuntimeError("its logits are NaN or infinite")
        self._cache.rewind(0)

    def cancel(self, turn_id: int) -> None:
        """Remove a turn. Its computed prompt tokens stay in the KV cache."""
        self._refused = [event for event in self._refused if event.turn_id != turn_id]
        if self._row is not None and self._row.turn.id == turn_id:
            self._row = None

    def close(self) -> None:
        """Free the KV cache and the model."""
        self._row = None
        self._cache = KeyValueCache(None, 0)
        self._model = None

    def _advance(self, row: Row) -> TokenEvent:
        if not self._has_begun:
            row.begin(self._cache.begin(row.prompt, min(row.turn.max_tokens, ANSWER_RESERVE)))
            self._has_begun = True
        chunk = first_chunk(row.pending, self._chunk)
        if not self._cache.fits(len(chunk)):
            row.pending = [*self._cache.grow(), *row.pending]
            chunk = first_chunk(row.pending, self._chunk)
        self._cache.append(chunk)
        row.pending = row.pending[len(chunk) :]
        if row.pending:
            return row.event()
        logits = self._cache.logits()
        event = row.accept(int(sample(logits, [row.sampler])[0]), logits[0])
        if event.error:
            self._cache.clear()  # its content is undefined after a failure
        return event

    def _failed(self, row: Row, detail: str) -> TokenEvent:
        self._cache.clear()
        return row.failure(WorkerError(detail=detail))


def first_chunk(tokens: Sequence[int], size: int) -> Sequence[int]:
    """Cut off up to `size` tokens to compute in one step, so that no single one is left (`KeyValueCache` says why)."""
    return tokens[: size - 1] if len(tokens) == size + 1 and size > 2 else tokens[:size]
