"""Forward passes over a range of slots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupola_providers.runtime.sampling import Logits
from cupola_providers.runtime.slots.graph import SlotsGraph
from cupola_providers.runtime.slots.memory import KvMemory
from cupola_providers.runtime.slots.rewriting import LOGITS_INDEX, early_present

_MOST_BINDINGS = 64
_MASK_STEP = 64


@dataclass(slots=True)
class _Binding:
    """A binding of the KV cache of some slots, and what else is bound now: address and shape by name."""

    native: Any
    bound: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)


class SlotDecoder:
    """Runs a graph over neighbouring slots.

    GroupQueryAttention takes the length of each row from the sum of its attention mask and writes new keys and
    values where that ends. Binding the KV cache takes longer than everything else in Python, so bindings are kept
    for every range of slots that was used; the small inputs are bound again only when their shape changes.

    Args:
        session: The `onnxruntime.InferenceSession`.
        graph: Its description.
        memory: The KV cache.
    """

    def __init__(self, session: Any, graph: SlotsGraph, memory: KvMemory) -> None:
        self._session = session
        self._graph = graph
        self._memory = memory
        self._bindings: dict[tuple[int, int], _Binding] = {}
        self._buffers: dict[str, NDArray[Any]] = {}
        self._views: dict[tuple[str, tuple[int, ...]], tuple[NDArray[Any], int]] = {}
        self._positions = np.arange(memory.row_shape[1])

    def run(self, first: int, tokens: NDArray[np.int64], totals: Sequence[int], picks: Sequence[int]) -> Logits:
        """Feed tokens to the slots from `first` on.

        Args:
            first: The first slot.
            tokens: int64 [rows, count]. More than one row with more than one token each only for empty slots, unless
                the graph attends to them one by one.
            totals: Tokens in each row's slot after this pass, those of `tokens` included.
            picks: For which rows and positions logits are wanted: indices into the flattened `tokens`.

        Returns:
            float32 [len(picks), vocab], valid until the next call.

        Raises:
            RuntimeError: The graph failed. What it should have written is undefined, the rest is untouched.
        """
        rows, count = tokens.shape
        binding = self._binding(first, rows)
        self._input(binding, self._graph.input_ids, (rows, count))[...] = tokens
        from_nothing = rows > 1 and count > 1 and not self._graph.one_by_one
        width = max(totals) if from_nothing else self._mask_width(max(totals))
        mask = self._input(binding, self._graph.attention_mask, (rows, width))
        mask[...] = self._positions[:width] < np.asarray(totals)[:, None]
        if self._graph.picks_logits:
            # a graph fails on an empty choice, so a pass that needs no logits computes the first ones
            self._input(binding, LOGITS_INDEX, (max(1, len(picks)),))[...] = picks if len(picks) else 0
            shape: tuple[int, ...] = (max(1, len(picks)), self._graph.vocab_size)
            logits = self._output(binding, shape if self._graph.logits_rank == 2 else (1, *shape))
            logits = logits.reshape(shape)[: len(picks)]
        else:
            logits = self._output(binding, (rows, count, self._graph.vocab_size)).reshape(rows * count, -1)
        self._session.run_with_iobinding(binding.native)
        if not self._graph.picks_logits and (count > 1 or len(picks) < rows):
            logits = logits[list(picks)]
        return logits

    def close(self) -> None:
        """Let go of the graph and of all memory."""
        self._session = None
        self._bindings.clear()
        self._buffers.clear()
        self._views.clear()

    def _mask_width(self, longest: int) -> int:
        """Return how wide a mask to take, so that it seldom changes.

        It must be just as wide as the longest row when several prompts are computed in one pass: by that the
        attention tells that nothing came before them.
        """
        return min(-(-longest // _MASK_STEP) * _MASK_STEP, self._positions.size)

    def _input(self, binding: _Binding, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return self._bound(binding, binding.native.bind_input, name, shape, np.int64)

    def _output(self, binding: _Binding, shape: tuple[int, ...]) -> Logits:
        return self._bound(binding, binding.native.bind_output, self._graph.logits, shape, np.float32)

    def _bound(self, binding: _Binding, bind: Any, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        """Return memory of that shape, bound to the name. All bindings share it, since one pass runs at a time."""
        view = self._views.get((name, shape))
        if view is None:
            size = math.prod(shape)
            if name not in self._buffers or self._buffers[name].size < size:
                self._buffers[name] = np.empty(size, dtype)
                self._views = {key: one for key, one in self._views.items() if key[0] != name}
            array = self._buffers[name][:size].reshape(shape)
            view = self._views[name, shape] = (array, array.ctypes.data)
        array, address = view
        if binding.bound.get(name) != (address, shape):
            bind(name, "cpu", 0, dtype, shape, address)
            binding.bound[name] = (address, shape)
        return array

    def _binding(self, first: int, rows: int) -> _Binding:
        binding = self._bindings.get((first, rows))
        if binding is None:
            if len(self._bindings) >= _MOST_BINDINGS:
                self._bindings.clear()
            binding = self._bindings[first, rows] = _Binding(self._session.io_binding())
            shape = (rows, *self._memory.row_shape)
            arrays = zip(self._memory.names, self._memory.present_names, self._memory.arrays, strict=True)
            for past, present, array in arrays:
                address = array.ctypes.data + first * array.strides[0]
                binding.native.bind_input(past, "cpu", 0, np.float32, shape, address)
                early = (early_present(present, place) for place in range(self._graph.one_by_one - 1))
                for output in (present, *early):
                    binding.native.bind_output(output, "cpu", 0, np.float32, shape, address)
        return binding
