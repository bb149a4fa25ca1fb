"""One turn on its way: what is still to be computed, and what each chosen token means for it."""

from collections.abc import Sequence

from cupola import (
    ContextLengthExceededError,
    CupolaError,
    InvalidParameterError,
    Logprob,
    TokenEvent,
    Turn,
    WorkerError,
)
from cupola.errors import to_wire
from cupola_providers.runtime.config import GenaiConfig, resolve
from cupola_providers.runtime.sampling import NO_TOKEN, Logits, TurnSampler, logprobs


class Row:
    """A turn in the session.

    Args:
        turn: The turn, checked with `check_turn`.
        config: The model's configuration, for what the turn leaves open.
        vocab_size: Length of a row of logits.

    Attributes:
        pending: Tokens that are given or chosen, but not computed yet. With one left the turn takes part in decoding.
        cached: Tokens of the prompt that were in the KV cache already.
    """

    def __init__(self, turn: Turn, config: GenaiConfig, vocab_size: int) -> None:
        self.turn = turn
        self.prompt = list(turn.prompt)
        self.pending = self.prompt
        self.cached = 0
        self.sampler = TurnSampler(resolve(turn.sampling, config), self.prompt, vocab_size)
        self._generated = 0
        self._ends = turn.stop_token_ids if turn.ignore_eos else turn.stop_token_ids.union(config.eos_token_ids)
        if turn.min_tokens > 0:
            self.sampler.ban([*turn.stop_token_ids, *config.eos_token_ids])

    @property
    def id(self) -> int:
        """The turn's id."""
        return self.turn.id

    @property
    def is_ready(self) -> bool:
        """Whether the turn is past its prompt."""
        return len(self.pending) == 1

    def begin(self, cached: int) -> None:
        """Take note of how much of the prompt needs no computing."""
        self.cached = cached
        self.pending = self.prompt[cached:]

    def event(self) -> TokenEvent:
        """Report progress without a token."""
        return TokenEvent(self.id, cached_tokens=self.cached)

    def failure(self, error: CupolaError) -> TokenEvent:
        """Report that the turn failed."""
        return TokenEvent(self.id, cached_tokens=self.cached, error=to_wire(error))

    def accept(self, token: int, logits: Logits) -> TokenEvent:
        """Report what was chosen from a row of logits, and whether that ends the turn."""
        if token == NO_TOKEN:
            return self.failure(WorkerError(detail="The model's output is not a number; its files may be damaged."))
        if token in self._ends and self._generated >= self.turn.min_tokens:
            stop = token if token in self.turn.stop_token_ids else None
            return TokenEvent(self.id, finish="stop", cached_tokens=self.cached, stop_token=stop)
        self._generated += 1
        self.pending = [token]
        if self._generated == self.turn.min_tokens:
            self.sampler.ban(())
        return TokenEvent(
            self.id,
            (token,),
            finish="length" if self._generated >= self.turn.max_tokens else None,
            cached_tokens=self.cached,
            logprobs=self._logprobs(token, logits),
        )

    def _logprobs(self, token: int, logits: Logits) -> Sequence[Logprob]:
        if self.turn.top_logprobs is None:
            return ()
        found = logprobs(logits, token, self.turn.top_logprobs)
        return (Logprob(token, found.logprob, found.top),)


def check_turn(turn: Turn, *, vocab_size: int, context_length: int) -> None:
    """Refuse what can never run.

    Raises:
        InvalidParameterError: A token is not in the vocabulary, or something is not supported.
        ContextLengthExceededError: The turn does not fit.
    """
    if not turn.prompt:
        raise InvalidParameterError(param="prompt", detail="The prompt is empty: there is nothing to answer.")
    for param, tokens in (("prompt", turn.prompt), ("stop_token_ids", turn.stop_token_ids)):
        if tokens and not (min(tokens) >= 0 and max(tokens) < vocab_size):
            detail = f"A token of {param} is not in this model's vocabulary: ids go from 0 to {vocab_size - 1}."
            raise InvalidParameterError(param=param, detail=detail)
    if turn.guidance is not None:
        detail = "This kind of session cannot guide an answer. Ask without it, or use another provider."
        raise InvalidParameterError(param=turn.guidance.param, detail=detail)
    if len(turn.prompt) + turn.max_tokens > context_length:
        raise ContextLengthExceededError(
            context_length=context_length, prompt_tokens=len(turn.prompt), completion_tokens=turn.max_tokens
        )
