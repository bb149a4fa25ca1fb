"""The state of one running turn: pending tokens, sampling, and its end. Used by every kind of session."""

from collections.abc import Sequence

from cupola.errors import ContextLengthExceededError, CupolaError, InvalidParameterError, WorkerError, to_wire
from cupola.provider import FinishReason, Logprob, TokenEvent, Turn
from cupola_providers.runtime.config import GenaiConfig, resolve
from cupola_providers.runtime.guidance import Guide, Guides
from cupola_providers.runtime.sampling import NO_TOKEN, Logits, TurnSampler, logprobs
from cupola_providers.runtime.tokenizer import GenaiTokenizer


class Row:
    """A running turn.

    Args:
        turn: The turn.
        sampler: Samples its tokens.
        eos_token_ids: The model's end-of-sequence tokens.
        guide: Constrains the answer of a turn with guidance.

    Attributes:
        pending: Tokens that are not computed yet. A turn with exactly one takes part in decoding.
        cached: Number of prompt tokens that were found in the KV cache.
    """

    def __init__(
        self, turn: Turn, sampler: TurnSampler, eos_token_ids: frozenset[int], guide: Guide | None = None
    ) -> None:
        self.turn = turn
        self.prompt = list(turn.prompt)
        self.pending = self.prompt
        self.cached = 0
        self.sampler = sampler
        self._guide = guide
        self._generated = 0
        # With guidance, ignore_eos continues for as long as the grammar allows a token.
        self._banned_eos = eos_token_ids if guide and turn.ignore_eos else frozenset()
        self._ends = turn.stop_token_ids if turn.ignore_eos and not guide else turn.stop_token_ids | eos_token_ids
        self.sampler.ban([*self._banned_eos, *((turn.stop_token_ids | eos_token_ids) if turn.min_tokens else ())])
        if guide:
            self.sampler.guide(guide.mask)

    @property
    def id(self) -> int:
        """The turn's id."""
        return self.turn.id

    @property
    def is_ready(self) -> bool:
        """Whether the turn is past its prompt."""
        return len(self.pending) == 1

    def begin(self, cached: int) -> None:
        """Record how many prompt tokens are cached."""
        self.cached = cached
        self.pending = self.prompt[cached:]

    def event(self) -> TokenEvent:
        """Return an event that reports progress without a token."""
        return TokenEvent(self.id, cached_tokens=self.cached)

    def failure(self, error: CupolaError) -> TokenEvent:
        """Return the event of a failed turn."""
        return TokenEvent(self.id, cached_tokens=self.cached, error=to_wire(error))

    def accept(self, token: int, logits: Logits) -> TokenEvent:
        """Return the event of a token that was sampled from `logits` (float32 [vocab_size]), and of the turn's end."""
        if self._guide and self._guide.problem:
            param = self.turn.guidance.param if self.turn.guidance else "guidance"
            return self.failure(InvalidParameterError(param=param, detail=self._guide.problem))
        if token == NO_TOKEN:
            return self.failure(
                WorkerError(
                    detail="The model's logits are NaN or infinite. Its files may be damaged; download the model again."
                )
            )
        if token in self._ends:
            stop = token if token in self.turn.stop_token_ids else None
            return TokenEvent(self.id, finish="stop", cached_tokens=self.cached, stop_token=stop)
        self._generated += 1
        self.pending = [token]
        if self._generated == self.turn.min_tokens:
            self.sampler.ban([*self._banned_eos])
        if self._guide:
            self._guide.accept(token)
        return TokenEvent(
            self.id,
            (token,),
            finish=self._finish(),
            cached_tokens=self.cached,
            logprobs=self._logprobs(token, logits),
        )

    def _finish(self) -> FinishReason | None:
        if self._guide and self._guide.is_over and not self._guide.problem:
            return "stop"
        return "length" if self._generated >= self.turn.max_tokens else None

    def _logprobs(self, token: int, logits: Logits) -> Sequence[Logprob]:
        if self.turn.top_logprobs is None:
            return ()
        found = logprobs(logits, token, self.turn.top_logprobs)
        return (Logprob(token, found.logprob, found.top),)


class Rows:
    """Validates turns and creates their rows, for one session.

    Args:
        config: The model's configuration, with the default sampling parameters.
        tokenizer: The model's tokenizer.
        vocab_size: Length of a row of logits.
        context_length: Maximum number of tokens of prompt and answer together.
    """

    def __init__(self, config: GenaiConfig, tokenizer: GenaiTokenizer, *, vocab_size: int, context_length: int) -> None:
        self._config = config
        self._vocab_size = vocab_size
        self._context_length = context_length
        self._eos = frozenset(token for token in config.eos_token_ids if token < vocab_size)
        self._guides = Guides(tokenizer, vocab_size, sorted(self._eos))

    def open(self, turn: Turn) -> Row:
        """Create the row of a turn.

        Raises:
            InvalidParameterError: A token is not in the vocabulary, a parameter is out of range or not supported,
                or the guidance is invalid.
            ContextLengthExceededError: The turn does not fit.
        """
        if not turn.prompt:
            raise InvalidParameterError(param="prompt", detail="The prompt is empty. Send at least one token.")
        for param, tokens in (("prompt", turn.prompt), ("stop_token_ids", turn.stop_token_ids)):
            if tokens and not (min(tokens) >= 0 and max(tokens) < self._vocab_size):
                last = self._vocab_size - 1
                detail = f"A token of {param} is not in this model's vocabulary: ids go from 0 to {last}."
                raise InvalidParameterError(param=param, detail=detail)
        if len(turn.prompt) + turn.max_tokens > self._context_length:
            raise ContextLengthExceededError(
                context_length=self._context_length,
                prompt_tokens=len(turn.prompt),
                completion_tokens=turn.max_tokens,
            )
        sampler = TurnSampler(resolve(turn.sampling, self._config), turn.prompt, self._vocab_size)
        guide = self._guides.guide(turn.guidance) if turn.guidance else None
        return Row(turn, sampler, self._eos, guide)
