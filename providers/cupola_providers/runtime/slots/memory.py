"""The KV cache of a `slots` session: its plan, and its memory of one array per layer and kind."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cupola_providers.runtime.slots.graph import SlotsGraph

MOST_SLOTS = 16
"""With more rows a step is too slow for every turn in it; queueing gives better latency."""

ROOMY_SLOTS = 4
SHORTENED_LENGTH = 8192
"""If memory is short, slots are shortened so that `ROOMY_SLOTS` fit, but not below this number of tokens."""

SHORTEST_LENGTH = 512


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """The shape of a KV cache: `slots` turns of up to `length` tokens each."""

    slots: int
    length: int

    @classmethod
    def for_budget(cls, budget_bytes: int, *, bytes_per_token: int, context_length: int) -> Self | None:
        """Divide a memory budget into slots; None if it is too small for one useful slot.

        Slots have the full context length if they fit; there are at most `MOST_SLOTS`. Memory is allocated when
        tokens are written, so the budget is an upper bound.
        """
        tokens = budget_bytes // bytes_per_token
        length = min(context_length, tokens, max(SHORTENED_LENGTH, tokens // ROOMY_SLOTS))
        if length < min(context_length, SHORTEST_LENGTH):
            return None
        return cls(min(MOST_SLOTS, tokens // length), length)


class KvMemory:
    """The keys and values of all slots.

    A graph binds each array as past and as present, so that a pass appends in place. The memory is anonymous and
    allocated by the system on first write. Huge pages are disabled, because the heads of a slot are far apart: the
    first token of a turn would allocate 2 MB for each head of each layer.

    Attributes:
        row_shape: Shape of one slot: (kv_heads, length, head_size).
        arrays: float32 [slots, kv_heads, length, head_size]; keys and values of each layer, alternating.
        names: Names of the graph's inputs for `arrays`.
        present_names: Names of the graph's outputs for `arrays`.
    """

    def __init__(self, graph: SlotsGraph, plan: SlotPlan) -> None:
        shape = (plan.slots, graph.kv_heads, plan.length, graph.head_size)
        self.row_shape = shape[1:]
        self.arrays = [_lazy_zeros(shape) for _ in range(2 * graph.layers)]
        self.names = [name for pair in zip(graph.past_keys, graph.past_values, strict=True) for name in pair]
        self.present_names = [
            name for pair in zip(graph.present_keys, graph.present_values, strict=True) for name in pair
        ]

    def swap(self, first: int, second: int, counts: Sequence[int]) -> None:
        """Exchange two slots; `counts` are the numbers of tokens in use in each."""
        if min(counts) == 0:
            source, target = (first, second) if counts[0] else (second, first)
            self.copy(source, target, max(counts))
            return
        used = max(counts)
        for array in self.arrays:
            kept = array[first, :, :used].copy()
            array[first, :, :used] = array[second, :, :used]
            array[second, :, :used] = kept

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the first `count` tokens of a slot to another slot."""
        for array in self.arrays:
            array[target, :, :count] = array[source, :, :count]


def _lazy_zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    size = int(np.prod(shape))
    pages = mmap.mmap(-1, size * 4)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32, size).reshape(shape)
