"""Prompts of a given number of tokens that share no prefix, the same for every target of a round."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cupola.messages import ChatPrompt, Message
from cupola_server.bench.errors import PromptTooShortError

Tokenize = Callable[[ChatPrompt], Awaitable[Sequence[int]]]

_WORDS = (
    "river", "copper", "meadow", "lantern", "harbour", "velvet", "thunder", "orchard", "marble", "falcon",
    "winter", "garden", "silver", "bridge", "candle", "forest", "island", "market", "mirror", "needle",
)  # fmt: skip
_MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as chat messages, and as the token ids that the model's chat template makes of them."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]


class PromptFactory:
    """Makes prompts and remembers them, so that all targets of a round get the same ones.

    Args:
        tokenize: Renders a chat with the model's template and returns its token ids.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._prompts: dict[tuple[int, int], Prompt] = {}

    async def prompt(self, number: int, tokens: int) -> Prompt:
        """Return prompt `number` of the given length, off by a token or two where words do not fit exactly.

        Raises:
            PromptTooShortError: The chat template alone is longer.
        """
        prompt = self._prompts.get((number, tokens))
        if prompt is None:
            prompt = self._prompts[number, tokens] = await self._fit_length(number, tokens)
        return prompt

    @property
    def digest(self) -> str:
        """SHA-256 of all prompts so far, as hexadecimal digits."""
        digest = hashlib.sha256()
        for key in sorted(self._prompts):
            digest.update(repr((key, self._prompts[key].tokens)).encode())
        return digest.hexdigest()

    async def _fit_length(self, number: int, tokens: int) -> Prompt:
        empty = await self._with_words(number, 0)
        if len(empty.tokens) > tokens:
            raise PromptTooShortError(requested_tokens=tokens, minimum_tokens=len(empty.tokens))
        words, best = tokens - len(empty.tokens), empty
        for _ in range(_MAX_ATTEMPTS):
            prompt = await self._with_words(number, words)
            if abs(len(prompt.tokens) - tokens) < abs(len(best.tokens) - tokens):
                best = prompt
            if len(best.tokens) == tokens:
                break
            words = max(0, words + tokens - len(prompt.tokens))
        return best

    async def _with_words(self, number: int, words: int) -> Prompt:
        """Make a prompt with so many filler words. It begins with its number, so that no prefix cache applies."""
        start = number % len(_WORDS)
        text = " ".join(itertools.islice(itertools.cycle(_WORDS[start:] + _WORDS[:start]), words))
        messages = (
            Message("system", f"{number} is the number of the story."),
            Message("user", f"Tell a very long story about all of this: {text}"),
        )
        return Prompt(messages, tuple(await self._tokenize(ChatPrompt(messages))))
