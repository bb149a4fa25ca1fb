"""Guided answers: masks of the next tokens, so that an answer conforms to a schema, expression or grammar.

llguidance parses the grammar and computes a mask over the vocabulary for each step, usually in less than 0.1 ms. It
reports errors in user input as messages, not as exceptions.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from cupola.errors import InvalidParameterError
from cupola.provider import Guidance
from cupola_providers.runtime.guidance_grammar import format_message, grammar_of, literals
from cupola_providers.runtime.sampling import Logits
from cupola_providers.runtime.tokenizer import GenaiTokenizer

KEPT_GRAMMARS = 32
"""Number of compiled grammars that are cached; clients often repeat the same schema."""


class Guide:
    """Constrains one answer.

    Args:
        matcher: The compiled grammar, in its initial state.
        vocab_size: Length of a row of logits.
        eos_token_ids: Tokens that end an answer.

    Attributes:
        problem: Why the turn cannot continue; empty while it can.
    """

    def __init__(self, matcher: LLMatcher, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._eos = np.array(eos_token_ids, np.int64)
        self._bits = allocate_token_bitmask(1, vocab_size)
        self.problem = ""

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def mask(self, row: Logits) -> Logits:
        """Return the logits (float32 [vocab]) with all tokens at minus infinity that are not allowed next.

        End-of-sequence tokens are allowed where the answer is complete. If nothing else is allowed, one of them is
        kept even if bias or bans exclude it.
        """
        fill_next_token_bitmask(self._matcher, self._bits)
        self._note_problem()
        if self.problem:
            return np.full_like(row, -np.inf)
        allowed = np.unpackbits(self._bits.view(np.uint8)[0], count=row.size, bitorder="little").view(np.bool_)
        masked = np.where(allowed, row, np.float32(-np.inf))
        if masked.max() == -np.inf:
            masked[self._eos[allowed[self._eos]]] = 0.0
        return masked

    def accept(self, token: int) -> None:
        """Record a sampled token that does not end the answer."""
        self._matcher.consume_token(token)
        self._note_problem()

    def _note_problem(self) -> None:
        if self._matcher.is_error():
            self.problem = f"The guidance failed during the answer: {format_message(self._matcher.get_error())}."


class Guides:
    """Compiles guidance into grammars, for one session. The tokenizer's tables are created on first use.

    Args:
        tokenizer: The session's tokenizer.
        vocab_size: Length of a row of logits.
        eos_token_ids: Tokens that end an answer.
    """

    def __init__(self, tokenizer: GenaiTokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos = [token for token in eos_token_ids if token < vocab_size]
        self._spelling: Spelling | None = None
        self._native: LLTokenizer | None = None
        self._compiled: OrderedDict[Guidance, LLMatcher] = OrderedDict()

    def guide(self, guidance: Guidance) -> Guide:
        """Create a guide for one answer.

        Raises:
            InvalidParameterError: The schema, expression or grammar is invalid or not supported, or no answer of this
                model can conform to it. The detail gives the reason and the position.
        """
        if guidance not in self._compiled:
            self._compiled[guidance] = self._compile(guidance)
        self._compiled.move_to_end(guidance)
        if len(self._compiled) > KEPT_GRAMMARS:
            self._compiled.popitem(last=False)
        return Guide(self._compiled[guidance].deep_copy(), self._vocab_size, self._eos)

    def _compile(self, guidance: Guidance) -> LLMatcher:
        grammar = grammar_of(guidance)
        if not self._eos:
            detail = "This model has no end-of-sequence token, so its answers cannot be guided."
            raise InvalidParameterError(param=guidance.param, detail=detail)
        if self._spelling is None or self._native is None:
            self._spelling = Spelling(self._tokenizer, self._vocab_size, self._eos[0])
            self._native = native_tokenizer(self._spelling, self._eos)
        if strange := self._spelling.unwritable(literals(guidance)):
            detail = f"{guidance.param} cannot be used: this model has no tokens for {strange!a}."
            raise InvalidParameterError(param=guidance.param, detail=detail)
        matcher = LLMatcher(self._native, grammar, log_level=0)
        fill_next_token_bitmask(matcher, allocate_token_bitmask(1, self._vocab_size))
        if matcher.is_error():
            detail = f"{guidance.param} cannot be used: {format_message(matcher.get_error())}."
            raise InvalidParameterError(param=guidance.param, detail=detail)
        return matcher


def native_tokenizer(spelling: "Spelling", eos_token_ids: Sequence[int]) -> LLTokenizer:
    """Create llguidance's tokenizer from the bytes that answers are decoded from."""
    return LLTokenizer(TokenizerWrapper(spelling), n_vocab=len(spelling.tokens), eos_token=list(eos_token_ids))


class Spelling:
    """A vocabulary with the interface of llguidance's `TokenizerWrapper`."""

    bos_token_id = None

    def __init__(self, tokenizer: GenaiTokenizer, vocab_size: int, eos_token_id: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos_token_id
        self.tokens = [tokenizer.token_bytes(token) for token in range(vocab_size)]
        self.special_token_ids = [token for token in tokenizer.vocabulary.specials if token < vocab_size]

    def __call__(self, text: bytes) -> list[int]:
        """Return tokens of exactly these bytes, which may start or end inside a character.

        The tokenizer's own tokens are preferred, because the model was trained on them. They may not match: for partial
        text, or if the tokenizer adds a space or normalizes its input.
        """
        lead = len(self._tokenizer.encode(""))  # BOS, if there is one
        tokens = self._tokenizer.encode(text.decode("utf-8", "replace"))[lead:]
        return tokens if b"".join(self.tokens[token] for token in tokens) == text else self._longest(text)

    def unwritable(self, texts: Iterable[str]) -> str:
        """Return a character of the texts that the vocabulary cannot express; empty if there is none."""
        return next((one for text in texts for one in text if not self._bytes.issuperset(one.encode())), "")

    def _longest(self, text: bytes) -> list[int]:
        """Tokenize greedily with the longest matching tokens, up to the first byte without a token."""
        tokens = []
        at = 0
        while at < len(text):
            sizes = range(min(len(text) - at, self._longest_size), 0, -1)
            size = next((size for size in sizes if text[at : at + size] in self._by_spelling), 0)
            if not size:
                break
            tokens.append(self._by_spelling[text[at : at + size]])
            at += size
        return tokens

    @cached_property
    def _by_spelling(self) -> dict[bytes, int]:
        specials = set(self.special_token_ids)
        return {data: token for token, data in enumerate(self.tokens) if data and token not in specials}

    @cached_property
    def _bytes(self) -> set[int]:
        return set(b"".join(self._by_spelling))

    @cached_property
    def _longest_size(self) -> int:
        return max(map(len, self._by_spelling), default=0)
