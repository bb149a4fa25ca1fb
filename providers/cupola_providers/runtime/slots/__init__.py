"""The `slots` session: continuous batching on plain ONNX Runtime. `loading` alone makes one; nothing else looks inside.

`graph` says whether a model fits and `plan` how much it gets; `table` keeps the books of the KV cache that `memory`
holds; `decoder` runs forward passes over it; `session` decides which pass comes next, with what `packing` advises.
"""

from cupola_providers.runtime.slots.graph import SlotsGraph, slots_graph
from cupola_providers.runtime.slots.plan import SlotPlan
from cupola_providers.runtime.slots.session import SlotsSession

__all__ = ["SlotPlan", "SlotsGraph", "SlotsSession", "slots_graph"]
