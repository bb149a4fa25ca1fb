"""Speculative decoding: prompt lookup drafts (Saxena 2023), and the decision whether verifying them is faster."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

SHORTEST_MATCH = 2
"""Minimum length of an n-gram that must have occurred before for its continuation to be drafted."""

_LONGEST_MATCH = 5
_MEMORY = 0.9
_HITS_AT_START, _TRIES_AT_START = 0.4, 2.0

MOST_ROWS = 4
"""With more rows the cost of a pass grows with its tokens, and speculation gains nothing."""

_RATIO_AT_FIRST = 1.5
_RATIO_PER_ROW = 0.3
_MARGIN = 1.08
_LEARNING = 0.15
_FORGETTING = 0.004
_CHECKED_EVERY = 24


class Drafter:
    """Drafts the next tokens of one turn, and measures its acceptance rate even while drafts are not used.

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
        """Recent acceptance rate of a drafted token, 0 to 1."""
        return self._hits / self._tries

    def guess(self, most: int) -> list[int]:
        """Return at most `most` likely next tokens; none if the last tokens have not occurred before.

        The longest match is used, and among equal ones the latest.
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
            # a match that reaches the end is continued periodically
            self._guess = (known * most)[:most]
        return self._guess.copy()

    def add(self, token: int) -> None:
        """Record the next token of the turn."""
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
        """Return the expected number of accepted tokens of a draft of `count` tokens."""
        return sum(self.rate**place for place in range(1, count + 1))


class Drafted(Protocol):
    """The part of a row that drafting needs."""

    @property
    def id(self) -> int:
        """The turn's id."""

    @property
    def prompt(self) -> Sequence[int]:
        """Its prompt."""

    @property
    def pending(self) -> Sequence[int]:
        """The chosen token that is not computed yet, [1]."""


class Speculation:
    """Decides before each step whether to verify drafts.

    The acceptance rate of each turn is measured even while its drafts are not used, and the cost of verification is
    measured continuously, so turns that cannot be predicted lose no time. Neither changes an answer: a verification
    pass computes the same bits.

    Args:
        tokens: Tokens of each turn in a verification pass, including the one that is already chosen.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._drafters: dict[int, Drafter] = {}
        self._pace = Pace()

    def drafts(self, rows: Sequence[Drafted]) -> dict[int, list[int]]:
        """Return drafts for the next pass by turn id; empty if a pass without drafts is faster."""
        if len(rows) > MOST_ROWS:
            return {}
        guesses: dict[int, list[int]] = {}
        expected = 0.0
        for row in rows:
            drafter = self._drafters.get(row.id)
            if drafter is None:
                drafter = self._drafters[row.id] = Drafter([*row.prompt, *row.pending])
            guesses[row.id] = drafter.guess(self.tokens - 1)
            expected += drafter.expected(len(guesses[row.id]))
        return guesses if self._pace.pays(len(rows), expected) else {}

    def add(self, turn: int, token: int) -> None:
        """Record a token of a turn's answer."""
        if turn in self._drafters:
            self._drafters[turn].add(token)

    def took(self, rows: int, seconds: float, *, guessed: bool) -> None:
        """Record the duration of a pass."""
        self._pace.add(rows, seconds, guessed=guessed)

    def forget(self, turn: int) -> None:
        """Remove a turn."""
        self._drafters.pop(turn, None)


class Pace:
    """Measured cost of a verification pass relative to a plain pass, by number of rows."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._ratios: dict[int, float] = {}
        self._guessed_in_a_row = 0

    def ratio(self, rows: int) -> float:
        """Return the duration of a verification pass, in plain passes."""
        return self._ratios.get(rows, _RATIO_AT_FIRST + _RATIO_PER_ROW * (rows - 1))

    def pays(self, rows: int, expected: float) -> bool:
        """Whether `expected` additional tokens outweigh the cost. Regularly False, to measure plain passes again."""
        if self._guessed_in_a_row >= _CHECKED_EVERY or rows not in self._plain:
            return False
        return rows + expected > _MARGIN * rows * self.ratio(rows)

    def add(self, rows: int, seconds: float, *, guessed: bool) -> None:
        """Record the duration of a pass."""
        if guessed:
            self._guessed_in_a_row += 1
            found = min(max(seconds / self._plain[rows], 1.0), 4.0)
            self._ratios[rows] = self.ratio(rows) + _LEARNING * (found - self.ratio(rows))
            return
        self._guessed_in_a_row = 0
        known = self._plain.get(rows, seconds)
        self._plain[rows] = known + _LEARNING * (seconds - known)
        if (
            rows in self._ratios
        ):  # drift back to the initial ratio, so that one slow pass does not disable speculation forever
            first = _RATIO_AT_FIRST + _RATIO_PER_ROW * (rows - 1)
            self._ratios[rows] += _FORGETTING * (first - self._ratios[rows])
