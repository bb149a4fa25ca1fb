"""How many slots a KV cache gets, and how long they are."""

from dataclasses import dataclass
from typing import Self

MOST_SLOTS = 16
"""Past this a step takes so much longer that the turns in it crawl; a queue serves them better."""

ROOMY_SLOTS = 4
SHORTENED_LENGTH = 8192
"""Where memory is short, slots are made shorter than the context so that `ROOMY_SLOTS` fit, but not below this."""

SHORTEST_LENGTH = 512


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """The shape of a KV cache: `slots` turns of up to `length` tokens each."""

    slots: int
    length: int

    @classmethod
    def for_budget(cls, budget_bytes: int, *, bytes_per_token: int, context_length: int) -> Self | None:
        """Divide a memory budget into slots; None if it does not even hold one useful slot.

        Whole contexts where they fit, 16 at most. The budget is an upper bound: memory is taken where tokens are.
        """
        tokens = budget_bytes // bytes_per_token
        length = min(context_length, tokens, max(SHORTENED_LENGTH, tokens // ROOMY_SLOTS))
        if length < min(context_length, SHORTEST_LENGTH):
            return None
        return cls(min(MOST_SLOTS, tokens // length), length)
