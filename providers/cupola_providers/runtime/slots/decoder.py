"""Forward passes over a range of slots of the KV cache."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupola_providers.runtime.sampling import Logits
from cupola_providers.runtime.slots.graph import SlotsGraph
from cupola_providers.runtime.slots.memory import KvMemory
from cupola_providers.runtime.slots.rewriting import LOGITS_INDEX, intermediate_present

_MOST_BINDINGS = 64
_MASK_STEP = 64


@dataclass(slots=True)
class _Binding:
    """An I/O binding of the KV cache of a range of slots; `bound` is the address and shape of other tensors."""

    native: Any
    bound: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)


class SlotDecoder:
    """Runs a graph over adjacent slots.

    GroupQueryAttention takes the length of each row from the sum of its attention mask and writes new keys and
    values at its end. Binding the KV cache is the most expensive part of a call in Python, so bindings are cached by
    range of slots, and small inputs are bound again only when their shape changes.

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
        """Run one forward pass over the slots from `first` on.

        Args:
            first: Index of the first slot.
            tokens: int64 [rows, count]. Several rows of several tokens are allowed only for empty slots, unless the
                graph has unrolled attention.
            totals: Number of tokens in each row's slot after this pass, including `tokens`.
            picks: Positions whose logits to return, as indices into the flattened `tokens`.

        Returns:
            float32 [len(picks), vocab], valid until the next call.

        Raises:
            RuntimeError: The graph failed. The cache entries of `tokens` are undefined; all others are unchanged.
        """
        rows, count = tokens.shape
        binding = self._binding(first, rows)
        self._input(binding, self._graph.input_ids, (rows, count))[...] = tokens
        from_nothing = rows > 1 and count > 1 and not self._graph.one_by_one
        width = max(totals) if from_nothing else self._mask_width(max(totals))
        mask = self._input(binding, self._graph.attention_mask, (rows, width))
        mask[...] = self._positions[:width] < np.asarray(totals)[:, None]
        if self._graph.picks_logits:
            # ONNX Runtime fails on an empty index tensor, so a pass without picks computes position 0
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
        """Release the graph and all buffers."""
        self._session = None
        self._bindings.clear()
        self._buffers.clear()
        self._views.clear()

    def _mask_width(self, longest: int) -> int:
        """Return the width of the attention mask, rounded up so that its shape changes rarely.

        When several prompts are computed in one pass it must equal the longest row instead: GroupQueryAttention
        recognizes first prompts by that.
        """
        return min(-(-longest // _MASK_STEP) * _MASK_STEP, self._positions.size)

    def _input(self, binding: _Binding, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return self._bound(binding, binding.native.bind_input, name, shape, np.int64)

    def _output(self, binding: _Binding, shape: tuple[int, ...]) -> Logits:
        return self._bound(binding, binding.native.bind_output, self._graph.logits, shape, np.float32)

    def _bound(self, binding: _Binding, bind: Any, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        """Return an array that is bound to a name. All bindings share its memory, since passes never overlap."""
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
                early = (intermediate_present(present, place) for place in range(self._graph.one_by_one - 1))
                for output in (present, *early):
                    binding.native.bind_output(output, "cpu", 0, np.float32, shape, address)
        return binding
