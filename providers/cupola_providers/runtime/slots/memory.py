"""The memory of the KV cache: one array per layer and kind, [slots, kv_heads, length, head_size]."""

import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cupola_providers.runtime.slots.graph import SlotsGraph
from cupola_providers.runtime.slots.plan import SlotPlan


class KvMemory:
    """Keys and values of all slots.

    A graph binds the arrays as `past` and `present` at once, so that a pass appends in place. Pages are anonymous
    and come into being when they are written. Huge pages are refused: a slot's heads lie far apart, and the first
    token of a turn would take 2 MB for each head of each layer.
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
        """Exchange two slots, of which the first `counts` tokens are in use."""
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
        """Copy the first tokens of a slot to another one."""
        for array in self.arrays:
            array[target, :, :count] = array[source, :, :count]


def _lazy_zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    size = int(np.prod(shape))
    pages = mmap.mmap(-1, size * 4)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32, size).reshape(shape)
