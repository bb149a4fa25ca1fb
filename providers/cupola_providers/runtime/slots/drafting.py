"""Guessing how an answer goes on, from what was said before: prompt lookup (Saxena 2023), a kind of n-gram model."""

from collections.abc import Sequence

import numpy as np

SHORTEST_MATCH = 2
"""So many tokens must have occurred before, in this order, for what followed them to be a guess."""

_LONGEST_MATCH = 5
_MEMORY = 0.9
_HITS_AT_START, _TRIES_AT_START = 0.4, 2.0


class Drafter:
    """Guesses the next tokens of one turn, and keeps score of its guesses whether or not anybody used them.

    Args:
        history: All tokens of the turn so far.
    """

    def __init__(self, history: Sequence[int]) -> None:
        self._tokens = np.empty(2 * len(history) + 256, np.int64)
        self._tokens[: len(history)] = history
        self._count = len(history)
        self._guess: list[int] = []
        self._hits, self._tries = _HITS_AT_START, _TRIES_AT_START

    @property
    def rate(self) -> float:
        """How likely a guessed token is right, by the latest ones."""
        return self._hits / self._tries

    def guess(self, most: int) -> list[int]:
        """Return up to so many tokens that may come next; none if the last ones have not occurred before.

        Of several places the one with the longest match counts, and of these the last.
        """
        self._guess = []
        tokens, end = self._tokens[: self._count], self._count - 1
        places = np.flatnonzero(tokens[:-1] == tokens[-1])
        for length in range(1, min(_LONGEST_MATCH, self._count)):
            longer = places[places >= length]
            longer = longer[tokens[longer - length] == tokens[end - length]]
            if longer.size == 0:
                if length < SHORTEST_MATCH:
                    return []
                break
            places = longer
        if places.size and self._count >= SHORTEST_MATCH:
            following = int(places[-1]) + 1
            known = tokens[following : following + most].tolist()
            # where it runs into the end, what repeats goes on repeating
            self._guess = (known * most)[:most]
        return self._guess.copy()

    def add(self, token: int) -> None:
        """Take note of the token that came."""
        if self._guess:
            is_hit = self._guess.pop(0) == token
            self._hits = _MEMORY * self._hits + is_hit
            self._tries = _MEMORY * self._tries + 1
            if not is_hit:
                self._guess = []
        if self._count == self._tokens.size:
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._count] = token
        self._count += 1

    def expected(self, count: int) -> float:
        """Return how many of so many guessed tokens will be right, up to the first wrong one."""
        return sum(self.rate**place for place in range(1, count + 1))
