"""Speculative decoding: when to check guessed tokens in the pass that computes the next one anyway."""

from collections.abc import Sequence
from typing import Protocol

from cupola_providers.runtime.slots.drafting import Drafter

MOST_ROWS = 4
"""With more turns than these a pass costs as much as its tokens, and there is nothing to be had."""

_RATIO_AT_FIRST = 1.5
_RATIO_PER_ROW = 0.3
_MARGIN = 1.08
_LEARNING = 0.15
_FORGETTING = 0.004
_CHECKED_EVERY = 24


class Drafted(Protocol):
    """What is needed of a turn."""

    @property
    def id(self) -> int:
        """The turn's id."""

    @property
    def prompt(self) -> Sequence[int]:
        """Its prompt."""

    @property
    def pending(self) -> Sequence[int]:
        """The token chosen last."""


class Speculation:
    """Decides, step by step, whether guesses are worth checking.

    Every turn's guesses are scored also while they are not used, so nothing is lost on a turn that cannot be guessed,
    and one that can is noticed. What a checked guess costs is measured as it goes. Neither can change an answer: a
    pass that checks guesses computes the same bits.

    Args:
        tokens: Tokens of each turn in a pass that checks guesses, the one that is certain included.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._drafters: dict[int, Drafter] = {}
        self._pace = Pace()

    def drafts(self, rows: Sequence[Drafted]) -> dict[int, list[int]]:
        """Return guesses for the next pass over these turns, by id; nothing if a pass without pays better."""
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
        """Take note of a token of a turn's answer."""
        if turn in self._drafters:
            self._drafters[turn].add(token)

    def took(self, rows: int, seconds: float, *, guessed: bool) -> None:
        """Take note of how long a pass took."""
        self._pace.add(rows, seconds, guessed=guessed)

    def forget(self, turn: int) -> None:
        """Let go of a turn."""
        self._drafters.pop(turn, None)


class Pace:
    """What a pass that checks guesses costs, measured in passes that do not, by number of turns."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._ratios: dict[int, float] = {}
        self._guessed_in_a_row = 0

    def ratio(self, rows: int) -> float:
        """Return how many times as long the pass takes."""
        return self._ratios.get(rows, _RATIO_AT_FIRST + _RATIO_PER_ROW * (rows - 1))

    def pays(self, rows: int, expected: float) -> bool:
        """Tell whether so many more tokens are worth it. Now and then says no, to measure the other kind again."""
        if self._guessed_in_a_row >= _CHECKED_EVERY or rows not in self._plain:
            return False
        return rows + expected > _MARGIN * rows * self.ratio(rows)

    def add(self, rows: int, seconds: float, *, guessed: bool) -> None:
        """Take note of how long a pass took."""
        if guessed:
            self._guessed_in_a_row += 1
            found = min(max(seconds / self._plain[rows], 1.0), 4.0)
            self._ratios[rows] = self.ratio(rows) + _LEARNING * (found - self.ratio(rows))
            return
        self._guessed_in_a_row = 0
        known = self._plain.get(rows, seconds)
        self._plain[rows] = known + _LEARNING * (seconds - known)
        if rows in self._ratios:  # a pass that was slow by chance must not be held against guesses for good
            first = _RATIO_AT_FIRST + _RATIO_PER_ROW * (rows - 1)
            self._ratios[rows] += _FORGETTING * (first - self._ratios[rows])
