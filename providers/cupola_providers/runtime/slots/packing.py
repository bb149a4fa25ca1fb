"""Cutting prompts into passes."""

from collections.abc import Sequence

from cupola_providers.runtime.slots.table import FED_AT_LEAST

PASS_COST = 16
"""A pass over a prompt takes as long as so many tokens more: its cost that does not depend on their number."""


def chunk_length(left: int, chunk: int) -> int:
    """Return how many of the tokens left to compute: a chunk at most, and such that none is left alone."""
    count = min(left, chunk)
    return count - 1 if left - count == 1 and count > FED_AT_LEAST else count


def packed(lengths: Sequence[int], lead: int, most: int) -> slice:
    """Choose neighbours of a prompt that are computed with it, each padded to the longest.

    Args:
        lengths: Tokens of the prompts, in the order of their slots.
        lead: Which of them must be among the chosen.
        most: Most tokens in a pass, padding included; the lead alone may have more.
    """

    def pays(first: int, last: int) -> bool:
        part = lengths[first : last + 1]
        return len(part) * max(part) <= min(most, sum(part) + PASS_COST * (len(part) - 1))

    first = last = lead
    while last + 1 < len(lengths) and pays(first, last + 1):
        last += 1
    while first > 0 and pays(first - 1, last):
        first -= 1
    return slice(first, last + 1)
