"""Prompts of a wished length that share no beginning, the same for everybody in a round."""

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
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, as messages and as the tokens that the model's template makes of them."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]


class Prompts:
    """Makes prompts and remembers them.

    Args:
        tokenize: Renders a chat with the model's template and returns its tokens.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._made: dict[tuple[int, int], Prompt] = {}

    async def prompt(self, number: int, tokens: int) -> Prompt:
        """Return prompt `number` of that length; within a token or two where words do not fit exactly.

        Raises:
            PromptTooShortError: The template alone is longer.
        """
        found = self._made.get((number, tokens))
        if found is None:
            found = self._made[number, tokens] = await self._make(number, tokens)
        return found

    @property
    def digest(self) -> str:
        """Tells sets of prompts apart."""
        whole = hashlib.sha256()
        for key in sorted(self._made):
            whole.update(repr((key, self._made[key].tokens)).encode())
        return whole.hexdigest()

    async def _make(self, number: int, wished: int) -> Prompt:
        least = await self._of(number, 0)
        if len(least.tokens) > wished:
            raise PromptTooShortError(wished=wished, least=len(least.tokens))
        words, best = wished - len(least.tokens), least
        for _ in range(_TRIES):
            made = await self._of(number, words)
            if abs(len(made.tokens) - wished) < abs(len(best.tokens) - wished):
                best = made
            if len(best.tokens) == wished:
                break
            words = max(0, words + wished - len(made.tokens))
        return best

    async def _of(self, number: int, words: int) -> Prompt:
        """Make a prompt of so many words. It begins with its own number, so no cache of beginnings helps."""
        start = number % len(_WORDS)
        pool = " ".join(itertools.islice(itertools.cycle(_WORDS[start:] + _WORDS[:start]), words))
        messages = (
            Message("system", f"{number} is the number of the story."),
            Message("user", f"Tell a very long story about all of this: {pool}"),
        )
        return Prompt(messages, tuple(await self._tokenize(ChatPrompt(messages))))
